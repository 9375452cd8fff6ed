//! `vadlite info`: what is in a model file.

use super::console::print_line;
use crate::detector::model_file::ModelFile;
use anyhow::Context as _;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = ModelFile::read(&arguments.model)?;
    let mut fields = serde_json::to_value(&model.metadata)?;
    let fields = fields
        .as_object_mut()
        .context("the metadata is no JSON object")?;
    fields.insert("head_bytes".into(), model.head_bytes().into());
    fields.insert(
        "model_bytes".into(),
        std::fs::metadata(&arguments.model)?.len().into(),
    );
    fields.insert(
        "smallest_false_reject_rate".into(),
        model.calibration.smallest_rate().into(),
    );
    if arguments.json {
        return print_line(&serde_json::to_string(fields)?);
    }
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields.iter() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        print_line(&format!("{name:width$}  {text}"))?;
    }
    Ok(())
}
