//! The figures that `vadlite eval` prints and its report shows.

#[derive(Debug, serde::Serialize)]
pub struct Metrics {
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
