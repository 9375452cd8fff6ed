//! What each false reject rate costs and brings: the stops of the slider, the curves, and the table.

use crate::cli::report::charts::short;
use crate::detector::DefectScores;
use crate::detector::calibration::Calibration;
use crate::detector::metrics::CurvePoint;
use crate::detector::unusual::Trade;

/// How far the curves may reach; the first that is far enough.
const LIMITS: [f64; 4] = [0.1, 0.2, 0.5, 1.0];
/// The smallest rates on the slider have so many decimals.
const DECIMALS: i32 = 7;

/// A rate on the slider.
#[derive(Debug, PartialEq, serde::Serialize)]
pub struct Stop {
    pub rate: f64,
    pub threshold: f32,
    /// Held-out good images above the threshold.
    pub above: usize,
    /// Defects above it.
    pub painted: usize,
    pub bad: usize,
}

/// A share in per cent; `None` of none.
pub fn share(part: usize, of: usize) -> Option<String> {
    (of > 0).then(|| format!("{:.1} %", 100.0 * part as f64 / of as f64))
}

/// A rate of the table.
pub struct Row {
    pub rate: String,
    pub threshold: f32,
    pub painted: Option<String>,
    pub bad: Option<String>,
    pub set_by: String,
    /// Its number on the slider.
    pub stop: usize,
    pub own: bool,
}

/// The largest rate to be shown: 10 %, or more where the model's own is larger or the images support hardly less.
pub fn limit(calibration: &Calibration, own: f64) -> f64 {
    let least = own.max(2.0 * calibration.smallest_rate());
    let far_enough = LIMITS.into_iter().find(|limit| *limit >= least);
    far_enough.unwrap_or(1.0)
}

/// All rates of two digits that the images support, and the model's own.
pub fn stops(calibration: &Calibration, defects: &DefectScores, own: f64, limit: f64) -> Vec<Stop> {
    let round = (2..=DECIMALS)
        .rev()
        .flat_map(|decimals| (10..100).map(move |digits| f64::from(digits) / 10f64.powi(decimals)));
    let within = calibration.smallest_rate()..=limit;
    let mut rates: Vec<f64> = round.filter(|rate| within.contains(rate)).collect();
    rates.push(own);
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let above = |scores: &[f32], threshold: f32| {
        let above = scores.iter().filter(|score| **score > threshold);
        above.count()
    };
    let stop = |rate| {
        let threshold = calibration.threshold(rate).ok()?;
        Some(Stop {
            rate,
            threshold,
            above: above(calibration.scores(), threshold),
            painted: above(&defects.painted, threshold),
            bad: above(&defects.real, threshold),
        })
    };
    rates.into_iter().filter_map(stop).collect()
}

/// Share of the `defects` that each rate finds: a staircase with a step at every good image, from the smallest rate on that the images
/// support.
pub fn curve(calibration: &Calibration, defects: &[f32]) -> Vec<CurvePoint> {
    let mut defects = defects.to_vec();
    defects.sort_by(f32::total_cmp);
    let (count, mut found) = (calibration.scores().len(), 0.0);
    let mut points = Vec::with_capacity(2 * count);
    for (above, &threshold) in calibration.scores().iter().rev().enumerate() {
        let rate = (above + 1) as f64 / (count + 1) as f64;
        let missed = defects.partition_point(|score| *score <= threshold);
        let here = (defects.len() - missed) as f64 / defects.len().max(1) as f64;
        points.extend([found, here].map(|recall| CurvePoint {
            threshold,
            false_positive_rate: rate,
            recall,
        }));
        found = here;
    }
    points
}

/// The rates that the model file tells of.
pub fn rows(trades: &[Trade], stops: &[Stop], own: f64) -> Vec<Row> {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.1} %", 100.0 * share));
    let row = |trade: &Trade| Row {
        rate: short(100.0 * trade.false_reject_rate),
        threshold: trade.threshold,
        painted: percent(trade.synthetic_found),
        bad: percent(trade.bad_found),
        set_by: trade.set_by.clone().unwrap_or_else(|| "–".into()),
        stop: stops.partition_point(|stop| stop.rate < trade.false_reject_rate),
        own: trade.false_reject_rate == own,
    };
    trades.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(n: u16) -> Calibration {
        Calibration::new((1..=n).map(f32::from).collect()).unwrap()
    }

    #[test]
    fn stops_are_round_rates_that_the_images_support() {
        let calibration = up_to(199);
        let defects = DefectScores {
            lit: Vec::new(),
            painted: vec![198.5, 150.0, 500.0],
            real: vec![199.0],
        };
        let stops = stops(&calibration, &defects, 0.0123, 0.1);
        let [first, .., last] = &stops[..] else {
            panic!("{stops:?}")
        };
        assert_eq!((first.rate, first.threshold), (0.005, 199.0));
        assert_eq!((first.above, first.painted, first.bad), (0, 1, 0));
        assert_eq!((last.rate, last.threshold), (0.1, 180.0));
        let at = |rate: f64| stops.iter().find(|stop| stop.rate == rate).unwrap();
        assert_eq!(
            (at(0.01).threshold, at(0.01).painted, at(0.01).bad),
            (198.0, 2, 1)
        );
        assert_eq!(at(0.0123).threshold, 198.0);
        // 5.0 to 9.9 ‰, 1.0 to 9.9 %, 10 %, and the own.
        assert_eq!(stops.len(), 50 + 90 + 1 + 1);
    }

    #[test]
    fn the_curve_agrees_with_the_stops() {
        let calibration = up_to(57);
        let mut random = fastrand::Rng::with_seed(3);
        let painted: Vec<f32> = (0..40).map(|_| 70.0 * random.f32()).collect();
        let curve = curve(&calibration, &painted);
        let defects = DefectScores {
            lit: Vec::new(),
            painted,
            real: Vec::new(),
        };
        for stop in stops(&calibration, &defects, 0.02, 0.5) {
            let last = curve
                .iter()
                .rfind(|point| point.false_positive_rate <= stop.rate + 1e-9);
            let found = 40.0 * last.unwrap().recall;
            assert!((found - stop.painted as f64).abs() < 1e-9, "{stop:?}");
        }
    }

    #[test]
    fn few_images_have_a_wider_axis() {
        assert_eq!(limit(&up_to(99), 0.01), 0.1);
        assert_eq!(limit(&up_to(12), 1.0 / 13.0), 0.2);
        assert_eq!(limit(&up_to(99), 0.25), 0.5);
        assert_eq!(limit(&up_to(99), 0.75), 1.0);
    }
}
