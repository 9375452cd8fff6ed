//! How exactly `vadlitetrigger` opens a gate: pulses by Modbus TCP on loopback, each compared with its frame's time plus the delay.
//!
//!     cargo run --release --example trigger_timing [PULSES]

#[path = "../tests/common/plc.rs"]
#[allow(dead_code)]
mod plc;
#[path = "../tests/common/port.rs"]
mod port;

use gst::prelude::*;
use gstvadlite::video::meta::FrameResult;
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |text| text.parse())?;
    gst::init()?;
    gstvadlite::plugin_register_static()?;
    let plc = plc::Plc::start();
    let text = format!(
        "appsrc name=source is-live=true format=time caps=video/x-raw,format=GRAY8,width=16,height=16,framerate=30/1
         ! vadlitetrigger name=trigger delay={} pulse=5000000 merge-window=1000000 output={} ! fakesink sync=false",
        DELAY.as_nanos(),
        plc.address(1)
    );
    let pipeline = gst::parse::launch(&text)?;
    let pipeline: gst::Pipeline = pipeline
        .downcast()
        .expect("a description with several elements is a pipeline");
    let source = pipeline
        .by_name("source")
        .expect("it is in the description");
    let source: gst_app::AppSrc = source.downcast().expect("it is an appsrc");
    let trigger = pipeline
        .by_name("trigger")
        .expect("it is in the description");
    let stat = |name: &str| trigger.property::<gst::Structure>("stats").get::<u64>(name);
    pipeline.set_state(gst::State::Playing)?;
    while trigger
        .current_running_time()
        .is_none_or(|time| time == gst::ClockTime::ZERO)
        || stat("connected")? == 0
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut due = Vec::with_capacity(count);
    for frame in 0..count {
        // The running time and ours, read one after the other.
        let (now, taken) = (trigger.current_running_time(), Instant::now());
        let mut buffer = gst::Buffer::with_size(256)?;
        let inner = buffer.get_mut().expect("it has just been made");
        inner.set_pts(now);
        let result = FrameResult {
            score: 2.0,
            threshold: 1.0,
            flagged: true,
            inspected: true,
            skipped: false,
            drawn: false,
            frame: frame as u64,
            lost: 0,
            model: "".into(),
            latency: 0,
            size: gstvadlite::geometry::Size::new(240, 320),
            regions: Vec::new().into(),
            map: None,
            parts: None,
            reason: None,
        };
        result.write(inner)?;
        source.push_buffer(buffer)?;
        due.push(taken + DELAY);
        // Parts do not come in step with anything.
        std::thread::sleep(Duration::from_micros(fastrand::u64(15_000..45_000)));
    }
    while stat("pulses")? < count as u64 {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let opened: Vec<Instant> = plc
        .edges()
        .iter()
        .filter(|edge| edge.on)
        .map(|edge| edge.at)
        .collect();
    anyhow::ensure!(
        opened.len() == count,
        "{} of {count} pulses came",
        opened.len()
    );
    let mut errors: Vec<f64> = due
        .iter()
        .zip(&opened)
        .map(|(due, opened)| {
            let after = opened.saturating_duration_since(*due).as_secs_f64();
            (after - due.saturating_duration_since(*opened).as_secs_f64()) * 1e3
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let at = |q: f64| errors[((count - 1) as f64 * q).round() as usize];
    println!(
        "{count} pulses, milliseconds from a frame's time plus the delay to the coil's write at the PLC:"
    );
    println!(
        "least {:.3}  median {:.3}  90 % {:.3}  99 % {:.3}  99.9 % {:.3}  most {:.3}",
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    println!(
        "late {}  missed {}  dropped {}",
        stat("late")?,
        stat("missed")?,
        stat("dropped")?
    );
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
