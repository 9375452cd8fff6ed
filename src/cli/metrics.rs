//! The figures that `vadlite eval` prints and its report shows.

use super::console::print_line;
use crate::detector::metrics::Share;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a line gets first, and then how well good and defective images could be told apart.
#[derive(Debug, Serialize)]
pub struct Metrics {
    #[serde(flatten)]
    pub decision: Decision,
    /// `None`, here and below: not defined on this dataset.
    pub image_auroc: Option<f64>,
    pub pixel_auroc: Option<f64>,
    pub aupro: Option<f64>,
    pub image_f1_max: Option<f64>,
    pub images: usize,
    pub head_bytes: usize,
    pub backbone_bytes: usize,
    pub model_bytes: usize,
}

/// What is flagged at the model's own threshold.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Decision {
    /// Of the defective images.
    pub found: Share,
    /// Of the good images.
    pub false_rejects: Share,
    /// Of the defective images of each folder, by its name.
    pub by_kind: BTreeMap<String, Share>,
}

impl Decision {
    /// Takes in an image of the folder `kind`.
    pub fn add(&mut self, kind: &str, defective: bool, flagged: bool) {
        let add = |share: &mut Share| {
            share.part += usize::from(flagged);
            share.whole += 1;
        };
        if defective {
            add(&mut self.found);
            add(self.by_kind.entry(kind.to_owned()).or_default());
        } else {
            add(&mut self.false_rejects);
        }
    }

    pub fn print(&self) -> anyhow::Result<()> {
        let defective = " defective images at the model's own threshold";
        print_line(&format!("found             {}", self.found.of(defective)))?;
        for (kind, share) in &self.by_kind {
            print_line(&format!("  {kind:14}  {}", share.of("")))?;
        }
        let good = self.false_rejects.of(" good images");
        print_line(&format!("false rejects     {good}"))
    }
}

impl Serialize for Decision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Shares as numbers, and beside them what they rest on.
        #[derive(Serialize)]
        struct Fields<'a> {
            detection: Option<f64>,
            detection_interval: Option<[f64; 2]>,
            false_rejects: Option<f64>,
            false_rejects_interval: Option<[f64; 2]>,
            detection_by_kind: BTreeMap<&'a str, Option<f64>>,
            intervals_by_kind: BTreeMap<&'a str, Option<[f64; 2]>>,
            images_by_kind: BTreeMap<&'a str, usize>,
        }
        let kinds = || {
            self.by_kind
                .iter()
                .map(|(kind, share)| (kind.as_str(), share))
        };
        Fields {
            detection: self.found.value(),
            detection_interval: self.found.interval(),
            false_rejects: self.false_rejects.value(),
            false_rejects_interval: self.false_rejects.interval(),
            detection_by_kind: kinds().map(|(kind, share)| (kind, share.value())).collect(),
            intervals_by_kind: kinds()
                .map(|(kind, share)| (kind, share.interval()))
                .collect(),
            images_by_kind: kinds().map(|(kind, share)| (kind, share.whole)).collect(),
        }
        .serialize(serializer)
    }
}
