//! Greedy k-center selection: the vectors that leave no other one far from all of them (Sener and Savarese 2018; PatchCore, eq. 5).

use rayon::prelude::*;

/// Vectors a thread takes at a time; fixed, so that the result does not depend on the number of threads.
const CHUNK: usize = 4096;
/// Vectors picked between two reports of progress.
const PROGRESS: usize = 50;

/// Picks `count` of the vectors (rows x `dimensions`): each next one is the one farthest from those picked so far. Starts with the one
/// farthest from the mean. Returns their indices in the order picked; all of them where there are no more than `count`.
///
/// Distances are taken between vectors rounded to 8 bits with one common scale: the selection is a heuristic, and a quarter of the
/// memory is several times the speed. `progress` is told now and then how many are picked.
///
/// # Errors
/// Those of `progress`, which ends the selection.
pub fn greedy_k_center<T: Copy + Into<f32> + Sync, E>(
    vectors: &[T],
    dimensions: usize,
    count: usize,
    mut progress: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<usize>, E> {
    let rows = vectors.len() / dimensions.max(1);
    if rows <= count {
        return Ok((0..rows).collect());
    }
    let largest = vectors
        .par_iter()
        .map(|&value| value.into().abs())
        .reduce(|| 0.0, f32::max)
        .max(f32::MIN_POSITIVE);
    let codes: Vec<i8> = vectors
        .par_iter()
        .map(|&value| (value.into() * (127.0 / largest)).round() as i8)
        .collect();
    let norms: Vec<i32> = codes
        .par_chunks_exact(dimensions)
        .map(|code| dot(code, code))
        .collect();

    let mean: Vec<i8> = (0..dimensions)
        .map(|d| {
            (codes
                .iter()
                .skip(d)
                .step_by(dimensions)
                .map(|&code| f64::from(code))
                .sum::<f64>()
                / rows as f64)
                .round() as i8
        })
        .collect();
    let mut distances = vec![i32::MAX; rows];
    let mut next = update(&codes, &norms, &mean, &mut distances);
    distances.fill(i32::MAX);
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count {
        picked.push(next);
        if picked.len() % PROGRESS == 0 {
            progress(picked.len())?;
        }
        let centre = codes[next * dimensions..][..dimensions].to_vec();
        next = update(&codes, &norms, &centre, &mut distances);
    }
    Ok(picked)
}

/// Lowers each distance to that from `centre` where it is nearer; returns the vector that is now farthest (the first among equals).
fn update(codes: &[i8], norms: &[i32], centre: &[i8], distances: &mut [i32]) -> usize {
    let dimensions = centre.len();
    let centre_norm = dot(centre, centre);
    let farthest = codes
        .par_chunks(CHUNK * dimensions)
        .zip(norms.par_chunks(CHUNK))
        .zip(distances.par_chunks_mut(CHUNK))
        .enumerate()
        .map(|(chunk, ((codes, norms), distances))| {
            update_chunk(codes, norms, centre, centre_norm, distances);
            let mut best = (i32::MIN, 0);
            for (row, &distance) in distances.iter().enumerate() {
                if distance > best.0 {
                    best = (distance, chunk * CHUNK + row);
                }
            }
            best
        })
        .reduce(
            || (i32::MIN, usize::MAX),
            |a, b| {
                if (b.0, std::cmp::Reverse(b.1)) > (a.0, std::cmp::Reverse(a.1)) {
                    b
                } else {
                    a
                }
            },
        );
    farthest.1
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2+fma"))]
fn update_chunk(
    codes: &[i8],
    norms: &[i32],
    centre: &[i8],
    centre_norm: i32,
    distances: &mut [i32],
) {
    for ((code, &norm), distance) in codes.chunks_exact(centre.len()).zip(norms).zip(distances) {
        let product: i32 = code
            .iter()
            .zip(centre)
            .map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b)))
            .sum();
        *distance = (*distance).min(norm + centre_norm - 2 * product);
    }
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| i32::from(a) * i32::from(b))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors on a grid that 8 bits hold exactly, so that the plain definition must pick the very same ones.
    #[test]
    fn picks_what_the_definition_picks_on_any_number_of_threads() {
        let (rows, dimensions, count) = (9000, 5, 40);
        let mut state = 7u64;
        let mut vectors: Vec<f32> = (0..rows * dimensions)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % 201) as f32 - 100.0
            })
            .collect();
        vectors[0] = 127.0;
        let row = |index: usize| &vectors[index * dimensions..][..dimensions];
        let squared =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let farthest = |distances: &[f32]| {
            (0..rows)
                .rev()
                .max_by(|&a, &b| distances[a].total_cmp(&distances[b]))
                .unwrap()
        };
        let mean: Vec<f32> = (0..dimensions)
            .map(|d| ((0..rows).map(|r| row(r)[d]).sum::<f32>() / rows as f32).round())
            .collect();
        let mut expected = vec![farthest(
            &(0..rows)
                .map(|r| squared(row(r), &mean))
                .collect::<Vec<_>>(),
        )];
        let mut distances = vec![f32::INFINITY; rows];
        while expected.len() < count {
            let centre = row(*expected.last().unwrap()).to_vec();
            for (r, distance) in distances.iter_mut().enumerate() {
                *distance = distance.min(squared(row(r), &centre));
            }
            expected.push(farthest(&distances));
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            assert_eq!(
                pool.install(|| greedy_k_center(&vectors, dimensions, count, |_| Ok::<_, ()>(()))),
                Ok(expected.clone()),
                "{threads} threads"
            );
        }
        assert_eq!(
            greedy_k_center(&vectors[..3 * dimensions], dimensions, 10, |_| Err(())),
            Ok(vec![0, 1, 2])
        );
    }
}
