//! What `vadlite fit` says of the model that it has made: what it keeps, how it was chosen, and what a person should look at.

use crate::cli::console::{print_line, warn};
use crate::detector::Cluster;
use crate::detector::calibration::Calibration;
use crate::detector::model_file::{Metadata, ModelFile};
use crate::detector::unusual::Unusual;
use std::path::Path;

/// Unusual images that are printed; the model names more.
const PRINTED: usize = 8;

pub fn say(out: &Path, model: &ModelFile, cluster: Option<&Cluster>) -> anyhow::Result<()> {
    let metadata = &model.metadata;
    let copies = match metadata.copies {
        0 => String::new(),
        copies => format!(" ({copies} of them copies of others)"),
    };
    print_line(&format!(
        "{}: {} ({}) from {} good images{copies}, threshold {:.4} for a false reject rate of {:.4}, head {} bytes",
        out.display(),
        metadata.method.name(),
        metadata.preset.name(),
        metadata.good_images,
        metadata.threshold,
        metadata.false_reject_rate,
        model.head_bytes()
    ))?;
    if let Some(located) = &metadata.located {
        print_line(&format!("located     {located}"))?;
    }
    if let Some(tried) = tried(metadata) {
        print_line(&format!("chosen      {tried}"))?;
    }
    if let Some(rejects) = metadata.light_rejects {
        let how = match metadata.light_level {
            Some(_) => "images are brought to the same level, and in",
            None => "in",
        };
        let percent = 100.0 * rejects;
        print_line(&format!(
            "light       {how} light 15 % brighter or darker {percent:.0} % of the good images are flagged"
        ))?;
    }
    unusual(metadata)?;
    if let Some(cluster) = cluster {
        print_line(&format!(
            "place       {}. If nobody wants it judged, leave it out with --mask PNG, a picture of the whole image that is black there; --report FILE offers one",
            place(cluster)
        ))?;
    }
    trades(metadata)?;
    if let Some(tail) = long_tail(metadata, &model.calibration) {
        warn(tail);
    }
    Ok(())
}

/// Where the images that set the threshold are unusual.
pub fn place(cluster: &Cluster) -> String {
    format!(
        "{} of the {} most unusual images, and {} of all {}, are most unusual {}: without it the threshold would be about {:.4} in place of {:.4}",
        cluster.highest_there,
        cluster.highest,
        cluster.images_there,
        cluster.images,
        cluster.place,
        cluster.without,
        cluster.threshold
    )
}

/// How the method was chosen, where it was.
pub fn tried(metadata: &Metadata) -> Option<String> {
    let tried = metadata.tried.iter();
    let tried: Vec<String> = tried
        .map(|tried| format!("{} {:.0} %", tried.method.name(), 100.0 * tried.found))
        .collect();
    (!tried.is_empty()).then(|| {
        let name = metadata.method.name();
        format!(
            "{name}: of the defects painted on good images, about the promised rate, {} are found",
            tried.join(", ")
        )
    })
}

fn unusual(metadata: &Metadata) -> anyhow::Result<()> {
    let line = |label: &str, unusual: &Unusual| {
        let name = unusual.file.as_deref().unwrap_or("?");
        print_line(&format!(
            "{label:10}  {name}  {:.4}  {}",
            unusual.score, unusual.reason
        ))
    };
    let (out, within): (Vec<_>, Vec<_>) = metadata
        .unusual
        .iter()
        .partition(|unusual| unusual.left_out);
    for (number, unusual) in out.iter().enumerate() {
        line(if number == 0 { "left out" } else { "" }, unusual)?;
    }
    for (number, unusual) in within.iter().take(PRINTED).enumerate() {
        line(if number == 0 { "unusual" } else { "" }, unusual)?;
    }
    Ok(())
}

fn trades(metadata: &Metadata) -> anyhow::Result<()> {
    if metadata.trades.is_empty() {
        return Ok(());
    }
    let bad = metadata
        .trades
        .iter()
        .any(|trade| trade.bad_found.is_some());
    let heading = if bad { "  bad found" } else { "" };
    print_line(&format!(
        "rate        threshold  painted found{heading}  set by"
    ))?;
    for trade in &metadata.trades {
        let percent = |share: Option<f64>| {
            share.map_or_else(|| "-".into(), |share| format!("{:.0} %", 100.0 * share))
        };
        let found = if bad {
            format!("  {:>9}", percent(trade.bad_found))
        } else {
            String::new()
        };
        print_line(&format!(
            "{:>5.1} %     {:>9.4}  {:>13}{found}  {}",
            100.0 * trade.false_reject_rate,
            trade.threshold,
            percent(trade.synthetic_found),
            trade.set_by.as_deref().unwrap_or("-")
        ))?;
    }
    Ok(())
}

/// Where few images set the threshold far above the others.
pub fn long_tail(metadata: &Metadata, calibration: &Calibration) -> Option<String> {
    let tail = calibration.long_tail(metadata.false_reject_rate)?;
    let within = metadata.unusual.iter().filter(|unusual| !unusual.left_out);
    let names: Vec<&str> = within
        .take(tail.images.min(PRINTED))
        .filter_map(|unusual| unusual.file.as_deref())
        .collect();
    let more = if tail.images > PRINTED { ", …" } else { "" };
    Some(format!(
        "the threshold is set by {} of {} images: {}{more}; without them it would be {:.4}: look at them, and leave them out with --leave-out if they are not good",
        tail.images,
        calibration.scores().len(),
        names.join(", "),
        tail.without
    ))
}
