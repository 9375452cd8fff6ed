//! Facts that every page lists.

use crate::detector::model_file::Metadata;
use crate::geometry::Size;
use std::time::SystemTime;

/// A term, and what it is.
pub type Fact = (&'static str, String);

pub fn of_model(metadata: &Metadata) -> [Fact; 4] {
    let Size { height, width } = metadata.input_size;
    [
        ("Method", metadata.method.name().into()),
        ("Preset", metadata.preset.name().into()),
        (
            "Backbone",
            format!("{}, taps {}", metadata.backbone, metadata.taps.join(", ")),
        ),
        ("Image tensor", format!("{width} × {height} pixels")),
    ]
}

/// When the page is made, and by what.
pub fn of_page() -> [Fact; 2] {
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    [
        ("Made", date.replace('T', " ").replace('Z', " UTC")),
        ("By", concat!("vadlite ", env!("CARGO_PKG_VERSION")).into()),
    ]
}
