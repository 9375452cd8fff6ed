//! The tensors of a head, as a model file holds them: small types going in, checked values coming out.

use super::error::TensorError;
use half::f16;
use safetensors::tensor::Dtype;

/// What their names begin with in the file.
pub(super) const HEAD_PREFIX: &str = "head.";

/// One tensor of a head, in the type that it is stored in.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

impl HeadTensor {
    /// `values` (row-major, of this shape) stored as 16-bit floats; out of their range they are clamped to it.
    pub fn f16(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let limit = f16::MAX.to_f32();
        let data = values
            .iter()
            .flat_map(|&value| f16::from_f32(value.clamp(-limit, limit)).to_le_bytes())
            .collect();
        Self {
            name: name.into(),
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            data,
        }
    }

    /// `values` stored as 32-bit floats.
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            data,
        }
    }

    /// `values` stored as 8-bit integers.
    pub fn i8(name: &str, shape: &[usize], values: &[i8]) -> Self {
        let data = values.iter().map(|value| value.cast_unsigned()).collect();
        Self {
            name: name.into(),
            dtype: Dtype::I8,
            shape: shape.to_vec(),
            data,
        }
    }

    /// `values` stored as unsigned bytes.
    pub fn u8(name: &str, shape: &[usize], values: &[u8]) -> Self {
        Self {
            name: name.into(),
            dtype: Dtype::U8,
            shape: shape.to_vec(),
            data: values.to_vec(),
        }
    }

    /// Size of the data.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// Access to a head's tensors by name, with their type, shape and values checked.
pub struct TensorReader<'a> {
    tensors: &'a [HeadTensor],
}

impl<'a> TensorReader<'a> {
    pub fn new(tensors: &'a [HeadTensor]) -> Self {
        Self { tensors }
    }

    fn find(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&HeadTensor, TensorError> {
        let tensor = self
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .ok_or_else(|| TensorError::Missing(in_file(name)))?;
        if tensor.dtype != dtype || tensor.shape != shape {
            return Err(TensorError::Shape {
                name: in_file(name),
                found: format!("{:?} {:?}", tensor.dtype, tensor.shape),
                needed: format!("{dtype:?} {shape:?}"),
            });
        }
        Ok(tensor)
    }

    /// Length of a tensor's first dimension, where the head leaves it open.
    ///
    /// # Errors
    /// The tensor is missing, or holds nothing.
    pub fn rows(&self, name: &str) -> Result<usize, TensorError> {
        let tensor = self.tensors.iter().find(|tensor| tensor.name == name);
        let rows = tensor
            .and_then(|tensor| tensor.shape.first().copied())
            .filter(|&rows| rows > 0);
        rows.ok_or_else(|| TensorError::Empty(in_file(name)))
    }

    /// A tensor of 16-bit floats.
    ///
    /// # Errors
    /// It is missing, of another type or shape, or holds a value that is not finite.
    pub fn f16(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorError> {
        let data = &self.find(name, Dtype::F16, shape)?.data;
        finite(
            name,
            data.as_chunks()
                .0
                .iter()
                .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
                .collect(),
        )
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// As [`TensorReader::f16`].
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorError> {
        let data = &self.find(name, Dtype::F32, shape)?.data;
        finite(
            name,
            data.as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
        )
    }

    /// A tensor of 8-bit integers.
    ///
    /// # Errors
    /// It is missing, or of another type or shape.
    pub fn i8(&self, name: &str, shape: &[usize]) -> Result<Vec<i8>, TensorError> {
        Ok(self
            .find(name, Dtype::I8, shape)?
            .data
            .iter()
            .map(|&byte| byte.cast_signed())
            .collect())
    }

    /// A tensor of unsigned bytes.
    ///
    /// # Errors
    /// It is missing, or of another type or shape.
    pub fn u8(&self, name: &str, shape: &[usize]) -> Result<&[u8], TensorError> {
        Ok(&self.find(name, Dtype::U8, shape)?.data)
    }
}

/// A tensor's name as the file has it.
fn in_file(name: &str) -> String {
    format!("{HEAD_PREFIX}{name}")
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>, TensorError> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(TensorError::NotFinite(in_file(name))),
    }
}
