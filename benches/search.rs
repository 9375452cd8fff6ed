//! `detector::search`: nearest neighbours in a bank, in a product-quantised bank, and the choice of a bank; the sizes are those of the
//! heads.
//!
//!     cargo bench --bench search

use criterion::{Criterion, criterion_group, criterion_main};
use gstvadlite::detector::Cancel;
use gstvadlite::detector::search::coreset::greedy_k_center;
use gstvadlite::detector::search::distance::{Bank, LANES, squared_distance};
use gstvadlite::detector::search::fast_scan::FastScan;
use gstvadlite::detector::search::product_quantizer::ProductQuantizer;
use gstvadlite::detector::search::two_stage::{Coarse, TwoStageSearch};
use std::hint::black_box;

/// Clustered vectors, as features are.
fn vectors(count: usize, dimensions: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let centres: Vec<f32> = (0..64 * dimensions).map(|_| 4.0 * random.f32()).collect();
    (0..count)
        .flat_map(|_| {
            let centre = random.usize(..64) * dimensions;
            let noise: Vec<f32> = (0..dimensions).map(|_| random.f32()).collect();
            let values = noise.iter().zip(&centres[centre..][..dimensions]);
            values
                .map(|(noise, centre)| centre + noise)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// `patchcore`: 16 queries against 10,000 vectors of taps 4, 7 and 10, and the definition for comparison.
fn exact(criterion: &mut Criterion) {
    let (count, dimensions) = (10_000, 160);
    let bank_vectors = vectors(count, dimensions, 0);
    let queries = vectors(LANES, dimensions, 1);
    let mut panel = vec![[0.0; LANES]; dimensions];
    for (lane, query) in queries.chunks_exact(dimensions).enumerate() {
        for (row, &value) in panel.iter_mut().zip(query) {
            row[lane] = value;
        }
    }
    let mut bank = Bank::new(bank_vectors.clone(), dimensions);
    let mut group = criterion.benchmark_group("16 queries, 10000 x 160");
    group.bench_function("Bank::nearest", |b| {
        b.iter(|| bank.nearest(black_box(&panel)));
    });
    group.bench_function("one by one", |b| {
        b.iter(|| {
            let nearest = |query: &[f32]| {
                let bank = bank_vectors.chunks_exact(dimensions);
                bank.map(|v| squared_distance(v, query))
                    .fold(f32::INFINITY, f32::min)
            };
            queries.chunks_exact(dimensions).map(nearest).sum::<f32>()
        });
    });
    group.finish();
}

/// `patchcore-lite --preset paper`: one query against 10,000 codes of 8 bytes.
fn quantised(criterion: &mut Criterion) {
    let (count, dimensions, subspaces) = (10_000, 160, 8);
    let bank = vectors(count, dimensions, 0);
    let quantizer = ProductQuantizer::fit(&bank, dimensions, subspaces, 8, 0, &Cancel::default());
    let Ok(quantizer) = quantizer else {
        return;
    };
    let mut codes = vec![0; count * subspaces];
    for (vector, codes) in bank
        .chunks_exact(dimensions)
        .zip(codes.chunks_exact_mut(subspaces))
    {
        quantizer.encode(vector, codes);
    }
    let queries = vectors(64, dimensions, 1);
    let mut group = criterion.benchmark_group("64 queries, 10000 codes m=8 b=8");
    if let Some(mut scan) = FastScan::new(&quantizer, &codes) {
        group.bench_function("FastScan::nearest", |b| {
            b.iter(|| {
                queries
                    .chunks_exact(dimensions)
                    .map(|q| scan.nearest(q))
                    .sum::<f32>()
            });
        });
    }
    let mut two_stage = TwoStageSearch::new(quantizer, codes, Coarse::Symmetric, 1000);
    group.sample_size(10);
    group.bench_function("TwoStageSearch::nearest, k=1000", |b| {
        b.iter(|| {
            queries
                .chunks_exact(dimensions)
                .map(|q| two_stage.nearest(q))
                .sum::<f32>()
        });
    });
    group.finish();
}

/// Choosing 200 of 20,000 patches, and fitting the codebooks to 2,000.
fn fitting(criterion: &mut Criterion) {
    let dimensions = 160;
    let patches = vectors(20_000, dimensions, 0);
    let mut group = criterion.benchmark_group("fitting");
    group.sample_size(10);
    group.bench_function("greedy_k_center, 200 of 20000 x 160", |b| {
        b.iter(|| greedy_k_center(black_box(&patches), dimensions, 200, |_| Ok::<_, ()>(())));
    });
    group.bench_function("ProductQuantizer::fit, 2000 x 160, m=8 b=8", |b| {
        b.iter(|| {
            ProductQuantizer::fit(
                &patches[..2000 * dimensions],
                dimensions,
                8,
                8,
                0,
                &Cancel::default(),
            )
        });
    });
    group.finish();
}

criterion_group!(search, exact, quantised, fitting);
criterion_main!(search);
