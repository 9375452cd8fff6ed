//! Nearest neighbours in a product-quantised bank in two stages: a coarse search leaves k candidates, and the distance to their decoded
//! vectors decides (the paper, eqs 9 to 12).

use super::distance::squared_distance;
use super::product_quantizer::ProductQuantizer;

/// What the coarse search compares the bank's codes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Coarse {
    /// The query's own code: distances between centroids, eqs 9 and 10
    Symmetric,
    /// The query as it is: equals the distance to the decoded vector, so that nothing is left to the second stage
    Query,
}

/// A bank prepared for the search.
pub struct TwoStageSearch {
    quantizer: ProductQuantizer,
    coarse: Coarse,
    candidates: usize,
    /// rows x m
    codes: Vec<u8>,
    /// m x centroids x centroids: squared distances between centroids (eq. 9)
    between: Vec<f32>,
    /// m x centroids: squared distances of the query's subvectors to all centroids
    tables: Vec<f32>,
    /// m: the query's own code
    own: Vec<usize>,
    ranked: Vec<(f32, u32)>,
}

impl TwoStageSearch {
    /// `codes`: rows x m, each below the quantiser's number of centroids.
    pub fn new(
        quantizer: ProductQuantizer,
        codes: Vec<u8>,
        coarse: Coarse,
        candidates: usize,
    ) -> Self {
        let (subspaces, centroids) = (quantizer.subspaces(), quantizer.count());
        let mut between = Vec::with_capacity(subspaces * centroids * centroids);
        for subspace in 0..subspaces {
            for a in quantizer.codebook(subspace) {
                between.extend(quantizer.codebook(subspace).map(|b| squared_distance(a, b)));
            }
        }
        Self {
            coarse,
            candidates,
            between,
            tables: vec![0.0; subspaces * centroids],
            own: vec![0; subspaces],
            ranked: Vec::with_capacity(codes.len() / subspaces),
            codes,
            quantizer,
        }
    }

    /// Squared distance of the query to the decoded vector that the two stages find.
    pub fn nearest(&mut self, query: &[f32]) -> f32 {
        let (subspaces, centroids) = (self.quantizer.subspaces(), self.quantizer.count());
        let tables = self.tables.chunks_exact_mut(centroids);
        for (subspace, (table, own)) in tables.zip(&mut self.own).enumerate() {
            let part = self.quantizer.part(query, subspace);
            let mut nearest = f32::INFINITY;
            for ((index, centroid), distance) in
                self.quantizer.codebook(subspace).enumerate().zip(table)
            {
                *distance = squared_distance(part, centroid);
                if *distance < nearest {
                    (nearest, *own) = (*distance, index);
                }
            }
        }
        if self.coarse == Coarse::Query {
            return self.nearest_decoded();
        }
        self.ranked.clear();
        for (codes, index) in self.codes.chunks_exact(subspaces).zip(0u32..) {
            let rows = self.between.chunks_exact(centroids * centroids);
            let distance: f32 = codes
                .iter()
                .zip(&self.own)
                .zip(rows)
                .map(|((&code, &own), rows)| rows[own * centroids + usize::from(code)])
                .sum();
            self.ranked.push((distance, index));
        }
        if self.ranked.len() > self.candidates {
            self.ranked
                .select_nth_unstable_by(self.candidates - 1, |a, b| a.0.total_cmp(&b.0));
            self.ranked.truncate(self.candidates);
        }
        self.ranked
            .iter()
            .map(|&(_, index)| self.decoded_distance(index as usize))
            .fold(f32::INFINITY, f32::min)
    }

    /// Squared distance of the last query to the decoded vector that is truly nearest.
    pub fn nearest_decoded(&self) -> f32 {
        (0..self.codes.len() / self.quantizer.subspaces())
            .map(|index| self.decoded_distance(index))
            .fold(f32::INFINITY, f32::min)
    }

    /// Squared distance of the last query to a decoded vector (eqs 11 and 12): subspaces add up, so tables serve.
    fn decoded_distance(&self, index: usize) -> f32 {
        let subspaces = self.quantizer.subspaces();
        self.codes[index * subspaces..][..subspaces]
            .iter()
            .zip(self.tables.chunks_exact(self.quantizer.count()))
            .map(|(&code, table)| table[usize::from(code)])
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::progress::Cancel;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition: rank all decoded vectors by their distance to the decoded query, keep k, take the nearest to the query.
        #[test]
        fn equals_the_definition(
            bank in prop::collection::vec(-4.0f32..4.0, 30 * 4),
            query in prop::collection::vec(-5.0f32..5.0, 4),
            candidates in 1usize..35,
        ) {
            let (dimensions, subspaces, bits) = (4, 2, 3);
            let quantizer = ProductQuantizer::fit(&bank, dimensions, subspaces, bits, 0, &Cancel::default()).unwrap();
            let mut codes = vec![0; 30 * subspaces];
            let decode = |codes: &[u8]| -> Vec<f32> {
                codes.iter().enumerate().flat_map(|(s, &code)| quantizer.codebook(s).nth(usize::from(code)).unwrap().to_vec()).collect()
            };
            for (vector, codes) in bank.chunks_exact(dimensions).zip(codes.chunks_exact_mut(subspaces)) {
                quantizer.encode(vector, codes);
            }
            let mut own = vec![0; subspaces];
            quantizer.encode(&query, &mut own);
            let own = decode(&own);
            let decoded: Vec<Vec<f32>> = codes.chunks_exact(subspaces).map(decode).collect();
            let mut order: Vec<f32> = decoded.iter().map(|vector| squared_distance(vector, &own)).collect();
            order.sort_by(f32::total_cmp);
            // Equal coarse distances at the cut may fall either way.
            let cut = order[candidates.min(30) - 1];
            let nearest = |limit: f32| decoded.iter().filter(|vector| squared_distance(vector, &own) <= limit).map(|vector| squared_distance(vector, &query)).fold(f32::INFINITY, f32::min);
            let (least, most) = (nearest(cut * 1.0001 + 1e-5), nearest(cut * 0.9999 - 1e-5));

            let mut search = TwoStageSearch::new(quantizer.clone(), codes.clone(), Coarse::Symmetric, candidates);
            let found = search.nearest(&query);
            prop_assert!(found >= least - 1e-4 && found <= most + 1e-4, "{} not in {}..{}", found, least, most);
            let true_nearest = nearest(f32::INFINITY);
            prop_assert!((search.nearest_decoded() - true_nearest).abs() < 1e-4);
            let mut search = TwoStageSearch::new(quantizer, codes, Coarse::Query, candidates);
            prop_assert!((search.nearest(&query) - true_nearest).abs() < 1e-4);
        }
    }
}
