//! Learning as the documents show it, under `gst-launch-1.0`, which waits for a pipeline to preroll, with every kind of sink.

mod common;

use common::program::{plugins, text};
use common::scratch;
use std::process::{Command, Output};

/// Runs a pipeline, for two minutes at most.
fn launch(pipeline: &str) -> Output {
    Command::new("timeout")
        .args(["120", "gst-launch-1.0"])
        .args(pipeline.split_whitespace())
        .env("GST_PLUGIN_PATH", plugins())
        .env("GST_REGISTRY", scratch().join("registry.bin"))
        .current_dir(scratch())
        .output()
        .unwrap()
}

#[test]
fn learning_from_a_video_ends_with_every_sink() {
    for (index, sink) in [
        "fakesink",
        "fakesink sync=true",
        "fakesink async=false",
        "appsink wait-on-eos=false",
        "filesink location=frames.raw",
        "videoconvert ! video/x-raw,format=I420 ! matroskamux ! filesink location=frames.mkv",
        "queue ! fakesink",
        "tee name=t ! queue ! fakesink t. ! queue ! fakesink async=false",
    ]
    .iter()
    .enumerate()
    {
        let model = format!("{index}.vadlite");
        let output = launch(&format!(
            "videotestsrc num-buffers=60 ! video/x-raw,width=224,height=224 \
             ! vadlite mode=learn learn-frames=20 model={model} ! {sink}"
        ));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{sink}: {said}");
        assert!(said.contains("Got EOS"), "{sink}: {said}");
        assert!(scratch().join(model).exists(), "{sink}: {said}");
    }
}
