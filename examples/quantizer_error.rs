//! Mean squared reconstruction error of the product quantiser, for benches/faiss_quantizer.py.
//!
//!     cargo run --release --example quantizer_error -- VECTORS.f32 DIMENSIONS SUBSPACES BITS

use gstvadlite::detector::Cancel;
use gstvadlite::detector::search::product_quantizer::ProductQuantizer;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, dimensions, subspaces, bits] = arguments.as_slice() else {
        anyhow::bail!("usage: quantizer_error VECTORS.f32 DIMENSIONS SUBSPACES BITS");
    };
    let (dimensions, subspaces, bits) = (dimensions.parse()?, subspaces.parse()?, bits.parse()?);
    let vectors: Vec<f32> = std::fs::read(path)?
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    let quantizer =
        ProductQuantizer::fit(&vectors, dimensions, subspaces, bits, 0, &Cancel::default())?;
    let mut codes = vec![0; subspaces];
    let mut total = 0.0;
    for vector in vectors.chunks_exact(dimensions) {
        quantizer.encode(vector, &mut codes);
        for (subspace, &code) in codes.iter().enumerate() {
            let centroid = quantizer.codebook(subspace).nth(code.into());
            let part = quantizer.part(vector, subspace);
            let pairs = part.iter().zip(centroid.into_iter().flatten());
            total += pairs.map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>();
        }
    }
    println!("{}", total / (vectors.len() / dimensions) as f64);
    Ok(())
}
