//! Cuts an ONNX graph to what the asked-for outputs need, so that one committed file serves every head at the cost of the shortest graph.
//!
//! ONNX Runtime computes every node of the graph that it is given, whichever outputs are fetched. The cut works on the protobuf wire
//! format: what stays is copied byte for byte, whatever operators, types or later additions to ONNX it uses.
//! Field numbers: `onnx/onnx.proto` of the ONNX project.

use crate::detector::error::BackboneError;
use crate::geometry::Size;
use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use std::collections::{HashMap, HashSet};

const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const GRAPH_OUTPUT: u32 = 12;
const GRAPH_VALUE_INFO: u32 = 13;
const ELEMENT_FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(bytes = "vec", optional, tag = "6")]
    graph: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    graphs: Vec<Vec<u8>>,
}

/// The name alone: an initializer's data would be copied otherwise.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimension: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    symbol: Option<String>,
}

/// One field of a message as it stands in the file: its number, its bytes with the key, and the payload where it is length-delimited.
struct Field<'a> {
    number: u32,
    raw: &'a [u8],
    payload: &'a [u8],
}

fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, BackboneError> {
    let mut fields = Vec::new();
    let mut rest = message;
    while rest.has_remaining() {
        let start = rest;
        let (number, wire) = decode_key(&mut rest).map_err(BackboneError::Damaged)?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut rest).map_err(BackboneError::Damaged)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                usize::try_from(decode_varint(&mut rest).map_err(BackboneError::Damaged)?)
                    .unwrap_or(usize::MAX)
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(BackboneError::NotOnnx("it uses protobuf groups"));
            }
        };
        if length > rest.len() {
            return Err(BackboneError::NotOnnx(
                "a field is longer than the file, which may be cut short",
            ));
        }
        let payload = &rest[..length];
        rest = &rest[length..];
        fields.push(Field {
            number,
            raw: &start[..start.len() - rest.len()],
            payload,
        });
    }
    Ok(fields)
}

fn write_message(number: u32, payload: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Returns `model` with only the nodes and initializers that `taps` need, `taps` as its outputs in that order, and its one input
/// fixed to 1 x 3 x `height` x `width`.
///
/// # Errors
/// Not an ONNX file; a tap that is no output of the graph (the text lists those that are); not exactly one image input; an input
/// that the file fixes to another size.
pub fn cut(model: &[u8], taps: &[String], input_size: Size) -> Result<Vec<u8>, BackboneError> {
    let model_fields = fields(model)?;
    let graph = model_fields
        .iter()
        .find(|field| field.number == MODEL_GRAPH)
        .ok_or(BackboneError::NotOnnx("it has no graph"))?;
    let graph_fields = fields(graph.payload)?;
    let of = |number| {
        graph_fields
            .iter()
            .filter(move |field: &&Field<'_>| field.number == number)
    };

    let outputs = of(GRAPH_OUTPUT)
        .map(|field| ValueInfo::decode(field.payload).map_err(BackboneError::Damaged))
        .collect::<Result<Vec<_>, _>>()?;
    for tap in taps {
        if !outputs.iter().any(|output| output.name == *tap) {
            return Err(BackboneError::NoTap {
                tap: tap.clone(),
                outputs: outputs.iter().map(|output| output.name.clone()).collect(),
            });
        }
    }
    let initializers: Vec<(String, &Field<'_>)> = of(GRAPH_INITIALIZER)
        .map(|field| {
            Ok((
                Tensor::decode(field.payload)
                    .map_err(BackboneError::Damaged)?
                    .name,
                field,
            ))
        })
        .collect::<Result<_, BackboneError>>()?;
    let initializer_names: HashSet<&str> =
        initializers.iter().map(|(name, _)| name.as_str()).collect();
    let mut inputs = of(GRAPH_INPUT)
        .map(|field| ValueInfo::decode(field.payload).map_err(BackboneError::Damaged))
        .collect::<Result<Vec<_>, _>>()?;
    inputs.retain(|input| !initializer_names.contains(input.name.as_str()));
    let [input] = inputs.as_slice() else {
        return Err(BackboneError::Inputs(inputs.len()));
    };
    let Size { height, width } = input_size;
    let input = fix_input(input, [1, 3, height as i64, width as i64])?;

    let nodes: Vec<(Node, &Field<'_>)> = of(GRAPH_NODE)
        .map(|field| {
            Ok((
                Node::decode(field.payload).map_err(BackboneError::Damaged)?,
                field,
            ))
        })
        .collect::<Result<_, BackboneError>>()?;
    let (needed_nodes, needed_values) = reachable(&nodes, taps);

    let mut new_graph = Vec::with_capacity(graph.payload.len());
    for (index, (_, field)) in nodes.iter().enumerate() {
        if needed_nodes[index] {
            new_graph.extend_from_slice(field.raw);
        }
    }
    for (name, field) in &initializers {
        if needed_values.contains(name.as_str()) {
            new_graph.extend_from_slice(field.raw);
        }
    }
    let dropped = [
        GRAPH_NODE,
        GRAPH_INITIALIZER,
        GRAPH_INPUT,
        GRAPH_OUTPUT,
        GRAPH_VALUE_INFO,
    ];
    for field in graph_fields
        .iter()
        .filter(|field| !dropped.contains(&field.number))
    {
        new_graph.extend_from_slice(field.raw);
    }
    write_message(GRAPH_INPUT, &input.encode_to_vec(), &mut new_graph);
    for tap in taps {
        let tensor = TensorType {
            element: ELEMENT_FLOAT,
            shape: None,
        };
        let output = ValueInfo {
            name: tap.clone(),
            r#type: Some(Type {
                tensor: Some(tensor),
            }),
        };
        write_message(GRAPH_OUTPUT, &output.encode_to_vec(), &mut new_graph);
    }

    let mut new_model = Vec::with_capacity(model.len());
    for field in model_fields {
        if field.number == MODEL_GRAPH {
            write_message(MODEL_GRAPH, &new_graph, &mut new_model);
        } else {
            new_model.extend_from_slice(field.raw);
        }
    }
    Ok(new_model)
}

/// Which nodes compute `taps`, and which values those read.
fn reachable<'a>(
    nodes: &'a [(Node, &Field<'_>)],
    taps: &'a [String],
) -> (Vec<bool>, HashSet<&'a str>) {
    // A nested graph (If, Loop) reads outer values without naming them at its node: keep everything then.
    let nested = |node: &Node| {
        node.attribute
            .iter()
            .any(|attribute| attribute.graph.is_some() || !attribute.graphs.is_empty())
    };
    if nodes.iter().any(|(node, _)| nested(node)) {
        let values = nodes
            .iter()
            .flat_map(|(node, _)| node.input.iter().map(String::as_str))
            .collect();
        return (vec![true; nodes.len()], values);
    }
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (index, (node, _)) in nodes.iter().enumerate() {
        producer.extend(node.output.iter().map(|name| (name.as_str(), index)));
    }
    let mut needed = vec![false; nodes.len()];
    let mut values: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = taps.iter().map(String::as_str).collect();
    while let Some(value) = open.pop() {
        if !values.insert(value) {
            continue;
        }
        if let Some(&index) = producer.get(value)
            && !std::mem::replace(&mut needed[index], true)
        {
            open.extend(nodes[index].0.input.iter().map(String::as_str));
        }
    }
    (needed, values)
}

fn fix_input(input: &ValueInfo, wanted: [i64; 4]) -> Result<ValueInfo, BackboneError> {
    let wrong = |wrong: String| BackboneError::Input {
        input: input.name.clone(),
        wrong,
    };
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor.as_ref());
    let tensor = tensor.ok_or_else(|| wrong("is no tensor".into()))?;
    if tensor.element != ELEMENT_FLOAT {
        return Err(wrong(format!(
            "does not take 32-bit floats (ONNX element type {})",
            tensor.element
        )));
    }
    if let Some(shape) = &tensor.shape {
        let fits = shape.dimension.len() == 4
            && shape
                .dimension
                .iter()
                .zip(wanted)
                .all(|(dimension, wanted)| {
                    dimension
                        .value
                        .is_none_or(|value| value == wanted || value <= 0)
                });
        if !fits {
            let text: Vec<_> = shape
                .dimension
                .iter()
                .map(|dimension| {
                    dimension.value.map_or_else(
                        || dimension.symbol.clone().unwrap_or_else(|| "?".into()),
                        |value| value.to_string(),
                    )
                })
                .collect();
            return Err(wrong(format!(
                "takes {}, not {wanted:?} (batch, channels, height, width)",
                text.join("x")
            )));
        }
    }
    let dimension = wanted
        .map(|value| Dimension {
            value: Some(value),
            symbol: None,
        })
        .to_vec();
    let tensor = TensorType {
        element: ELEMENT_FLOAT,
        shape: Some(Shape { dimension }),
    };
    Ok(ValueInfo {
        name: input.name.clone(),
        r#type: Some(Type {
            tensor: Some(tensor),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::square(224);

    fn committed() -> Vec<u8> {
        std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/mobilenetv2.onnx"
        ))
        .unwrap()
    }

    fn taps(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn shorter_cuts_are_smaller_and_stable() {
        let model = committed();
        let sizes: Vec<_> = [&["features.10"], &["features.13"], &["features.14"]]
            .map(|tap| cut(&model, &taps(tap), SIZE).unwrap().len())
            .to_vec();
        // Parameters in 4-byte floats, from the architecture: to features.10 234,658, to features.13 534,466, to features.14 688,418.
        for (size, parameters) in sizes.iter().zip([234_658, 534_466, 688_418]) {
            assert!(
                (parameters * 4..parameters * 4 + 60_000).contains(size),
                "{size} bytes for {parameters} parameters"
            );
        }
        let once = cut(&model, &taps(&["features.7", "features.10"]), SIZE).unwrap();
        assert_eq!(
            cut(&once, &taps(&["features.7", "features.10"]), SIZE).unwrap(),
            once
        );
    }

    #[test]
    fn missing_tap_lists_those_that_are_there() {
        let error = cut(&committed(), &taps(&["features.7", "layer3"]), SIZE)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("layer3")
                && error.contains("features.4")
                && error.contains("features.14"),
            "{error}"
        );
    }

    #[test]
    fn fixed_input_of_another_size_is_refused() {
        let fixed = cut(&committed(), &taps(&["features.4"]), SIZE).unwrap();
        let error = cut(&fixed, &taps(&["features.4"]), Size::square(256))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1x3x224x224") && error.contains("256"),
            "{error}"
        );
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let model = committed();
        for length in [0, 1, 7, 100, 5_000, model.len() / 2, model.len() - 1] {
            assert!(
                cut(&model[..length], &taps(&["features.4"]), SIZE).is_err(),
                "cut at {length}"
            );
        }
        assert!(cut(b"just text, no model", &taps(&["features.4"]), SIZE).is_err());
    }
}
