//! The page as its template shows it.

use super::Kind;
use super::charts::{Curve, Histogram};
use super::data::Data;
use super::pictures::Card;
use crate::detector::metrics::Share;
use askama::Template;

/// What `page.html` and the templates that it includes name.
#[derive(Template)]
#[template(path = "page.html")]
pub struct Page<'a> {
    /// Of the dataset.
    pub name: &'a str,
    pub method: &'static str,
    /// The model's own.
    pub threshold: f32,
    /// Where it lies from 0 to 1 along the axis of the scores.
    pub at: f64,
    pub counts: Counts,
    /// Names and values, and what those need that are not defined.
    pub figures: [(&'static str, Option<f64>, &'static str); 4],
    pub histogram: Histogram,
    pub ticks: Vec<(f64, String)>,
    pub kinds: &'a [Kind],
    pub roc: Option<Curve>,
    pub pro: Option<Curve>,
    pub mistakes: Vec<Card>,
    pub hits: Vec<Card>,
    pub facts: Vec<(&'static str, String)>,
    pub data: Data<'a>,
}

/// Images right and wrong at a threshold.
pub struct Counts {
    found: usize,
    missed: usize,
    alarms: usize,
    passed: usize,
}

impl Counts {
    pub fn at(threshold: f32, good: &[f32], defective: &[f32]) -> Self {
        let (found, alarms) = (flagged(defective, threshold), flagged(good, threshold));
        Self {
            found,
            missed: defective.len() - found,
            alarms,
            passed: good.len() - alarms,
        }
    }

    fn defective(&self) -> usize {
        self.found + self.missed
    }

    fn good(&self) -> usize {
        self.alarms + self.passed
    }

    fn found_interval(&self) -> String {
        let share = Share {
            part: self.found,
            whole: self.defective(),
        };
        share.of(" defective images").to_string()
    }

    fn alarms_interval(&self) -> String {
        let share = Share {
            part: self.alarms,
            whole: self.good(),
        };
        share.of(" good ones").to_string()
    }

    fn found_rate(&self) -> String {
        percent(self.found, self.defective())
    }

    fn alarm_rate(&self) -> String {
        percent(self.alarms, self.good())
    }

    fn precision(&self) -> String {
        percent(self.found, self.found + self.alarms)
    }

    /// F1 = 2 true positives / (flagged + defective).
    fn f1(&self) -> String {
        match self.found + self.alarms + self.defective() {
            0 => "–".into(),
            whole => format!("{:.4}", 2.0 * self.found as f64 / whole as f64),
        }
    }
}

/// How many of the scores lie above the threshold.
pub fn flagged(scores: &[f32], threshold: f32) -> usize {
    scores.iter().filter(|&&score| score > threshold).count()
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "–".into();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}
