//! `vadliterecord` with an encoder or a disk that is too slow, and with encoders that do not work: elements of the names that it asks
//! GStreamer for are made up here.

mod common;

use common::disk::{self, DISK, Gate};
use common::recordings::{FRAME, Feed, folder, json, play, videos};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Once};

static ENCODER: Gate = Gate::open();
/// Tests that close a gate do so one after another, and beside no other.
static ALONE: Mutex<()> = Mutex::new(());

/// A bin with this element's name in GStreamer, around these elements from `first` to `last`.
macro_rules! made_up {
    ($module:ident, $name:literal, $elements:literal, $takes:literal, $gives:literal, $build:expr) => {
        mod $module {
            use super::*;

            #[derive(Default)]
            pub struct Imp;

            #[glib::object_subclass]
            impl ObjectSubclass for Imp {
                const NAME: &'static str = concat!("MadeUp-", $name);
                type Type = Element;
                type ParentType = gst::Bin;
            }

            impl ObjectImpl for Imp {
                fn constructed(&self) {
                    self.parent_constructed();
                    let bin = self.obj();
                    let inner = gst::parse::bin_from_description($elements, false).unwrap();
                    for (name, element) in [("sink", "first"), ("src", "last")] {
                        let target = inner.by_name(element).unwrap().static_pad(name).unwrap();
                        let pad = gst::GhostPad::with_target(&target).unwrap();
                        inner.add_pad(&pad).unwrap();
                    }
                    bin.add(&inner).unwrap();
                    for name in ["sink", "src"] {
                        let template = bin.pad_template(name).unwrap();
                        let target = inner.static_pad(name).unwrap();
                        let pad = gst::GhostPad::from_template_with_target(&template, &target);
                        bin.add_pad(&pad.unwrap()).unwrap();
                    }
                    let build: fn(&gst::Bin) = $build;
                    build(bin.upcast_ref());
                }
            }

            impl GstObjectImpl for Imp {}

            impl ElementImpl for Imp {
                fn pad_templates() -> &'static [gst::PadTemplate] {
                    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                        [
                            ("sink", gst::PadDirection::Sink, $takes),
                            ("src", gst::PadDirection::Src, $gives),
                        ]
                        .map(|(name, direction, caps)| {
                            let caps = caps.parse::<gst::Caps>().unwrap();
                            let always = gst::PadPresence::Always;
                            gst::PadTemplate::new(name, direction, always, &caps).unwrap()
                        })
                        .into()
                    });
                    &TEMPLATES
                }
            }

            impl BinImpl for Imp {}

            glib::wrapper! {
                pub struct Element(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
            }

            pub fn register() {
                gst::Element::register(None, $name, gst::Rank::NONE, Element::static_type()).unwrap();
            }
        }
    };
}

// Whose hardware is not there.
made_up!(
    without_hardware,
    "nvv4l2h264enc",
    "filesink name=broken location=/proc/none/there identity name=first ! x264enc name=last",
    "video/x-raw",
    "video/x-h264",
    |_| ()
);
// Whose hardware takes small pictures only.
made_up!(
    small,
    "v4l2h264enc",
    "capsfilter name=first caps=video/x-raw,width=[1,400] ! x264enc tune=zerolatency name=last",
    "video/x-raw",
    "video/x-h264",
    |_| ()
);
// As slow as the test wants.
made_up!(
    slow,
    "slowjpegenc",
    "identity name=first ! jpegenc name=last",
    "video/x-raw",
    "image/jpeg",
    |bin| ENCODER.guard(&bin.static_pad("sink").unwrap())
);

fn init() {
    static ONCE: Once = Once::new();
    common::element::init();
    ONCE.call_once(|| {
        without_hardware::register();
        small::register();
        slow::register();
        disk::register();
    });
}

/// A raw frame of which is known whether it still takes memory.
struct Tracked(Vec<u8>);

static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Tracked {
    fn buffer(size: usize) -> gst::Buffer {
        ALIVE.fetch_add(size, Ordering::SeqCst);
        gst::Buffer::from_slice(Self(vec![0; size]))
    }
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        ALIVE.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

const MEBIBYTE: usize = 1 << 20;

/// Pushes frames as large as those of 12 megapixels, each flagged with a higher score than the one before, until so many are dropped.
/// Returns the number of frames, and the most bytes that were alive.
fn push_large(feed: &mut Feed, from: u64, dropped: u64) -> (u64, usize) {
    let (mut frame, mut most) = (from, 0);
    while feed.stat("dropped") < dropped {
        assert!(frame < from + 1000, "nothing is dropped");
        let buffer = Tracked::buffer(4000 * 3000 * 3 / 2);
        feed.push_buffer(buffer, Some(frame * FRAME), frame > 3);
        most = most.max(ALIVE.load(Ordering::SeqCst));
        frame += 1;
    }
    (frame, most)
}

#[test]
fn a_slow_encoder_costs_frames_and_not_memory() {
    init();
    let _alone = ALONE.lock();
    let folder = folder("slow encoder");
    let properties = format!("location=\"{}\" encoder=slowjpegenc", folder.display());
    let mut feed = Feed::new(&properties, true, 4000);
    // The trial of the encoder is over.
    feed.push_buffer(Tracked::buffer(4000 * 3000 * 3 / 2), Some(0), false);
    ENCODER.set_closed(true);
    let (frames, most) = push_large(&mut feed, 1, 20);
    ENCODER.set_closed(false);
    assert!(frames < 60);
    // Those that wait, those that may become a picture, and a few on their way.
    assert!(most < (256 + 256 + 100) * MEBIBYTE, "{most}");
    feed.end();
    // Once for each file; what is told before the first frame has come out of the encoder belongs to none.
    let told = feed.warnings();
    assert!((1..=2).contains(&told.len()), "{told:?}");
    assert!(
        told.iter().all(|text| text.contains("encoder is too slow")),
        "{told:?}"
    );
    let video = videos(&folder).remove(0);
    assert_eq!(json(&video)["complete"], true);
    // What was flagged and dropped is known all the same.
    assert!(feed.stat("dropped") >= 20);
    let listed = json(&video)["flagged"].as_array().unwrap().len() as u64;
    assert_eq!(listed, feed.stat("flagged"));
    assert_eq!(json(&video)["frames"], frames - feed.stat("dropped"));
}

#[test]
fn a_slow_disk_costs_frames_and_not_memory() {
    init();
    let _alone = ALONE.lock();
    let folder = folder("slow disk");
    // Matroska takes raw frames as well, and none of them costs any time.
    let properties = format!(
        "location=\"{}\" encoder=identity pre-roll=100000000 post-roll=1000000000",
        folder.display()
    );
    let mut feed = Feed::new(&properties, true, 4000);
    DISK.set_closed(true);
    let (frames, most) = push_large(&mut feed, 0, 20);
    assert!(frames < 100);
    // Those that wait for the recorder and the disk, and may become a picture.
    assert!(most < (64 + 16 + 256 + 256 + 100) * MEBIBYTE, "{most}");
    DISK.set_closed(false);
    feed.end();
    let told = feed.warnings();
    // Once for the incident, and once more if it began anew.
    assert!((1..=2).contains(&told.len()), "{told:?}");
    assert!(told[0].contains("too slow"), "{told:?}");
    let video = videos(&folder).remove(0);
    assert_eq!(json(&video)["complete"], true);
    // All of it; no demuxer takes frames as large as these.
    let frames = json(&video)["frames"].as_u64().unwrap();
    let size = video.metadata().unwrap().len();
    assert!(frames > 0 && size > frames * 18_000_000, "{frames}: {size}");
}

/// A source that waits loses nothing: it is held up, and let go when the pipeline stops.
#[test]
fn a_slow_disk_holds_up_a_file_and_not_its_stop() {
    init();
    let _alone = ALONE.lock();
    let folder = folder("slow disk and a file");
    let properties = format!(
        "location=\"{}\" encoder=identity pre-roll=100000000 post-roll=1000000000",
        folder.display()
    );
    let mut feed = Feed::new(&properties, false, 4000);
    DISK.set_closed(true);
    let pushes = std::thread::spawn(move || {
        for frame in 0..12 {
            let buffer = Tracked::buffer(4000 * 3000 * 3 / 2);
            feed.push_buffer(buffer, Some(frame * FRAME), frame == 3);
        }
        feed
    });
    // Nothing goes on, and nothing is lost.
    let held = videos_when_there(&folder);
    assert_eq!(held, 1);
    DISK.set_closed(false);
    let feed = pushes.join().unwrap();
    feed.end();
    assert_eq!(feed.stat("dropped"), 0);
    let video = videos(&folder).remove(0);
    assert_eq!(json(&video)["frames"], 12);
}

fn videos_when_there(folder: &Path) -> usize {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let count = videos(folder).len();
        if count > 0 || std::time::Instant::now() > end {
            return count;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The names of the encoders within the element.
fn encoders(feed: &Feed) -> Vec<String> {
    let bin = feed.element.downcast_ref::<gst::Bin>().unwrap();
    let factories = bin
        .children()
        .into_iter()
        .filter_map(|child| child.factory());
    let names = factories.map(|factory| factory.name().to_string());
    names.filter(|name| name.ends_with("enc")).collect()
}

#[test]
fn an_encoder_that_does_not_work_is_passed_over() {
    init();
    let _alone = ALONE.lock();
    for (width, expected) in [(320, "v4l2h264enc"), (640, "x264enc")] {
        let folder = folder(&format!("encoders {width}"));
        let properties = format!("location=\"{}\"", folder.display());
        let mut feed = Feed::new(&properties, true, width);
        feed.push_all(0..30, Some(10));
        feed.end();
        assert_eq!(encoders(&feed), [expected]);
        assert_eq!(feed.warnings(), Vec::<String>::new());
        assert_eq!(play(&videos(&folder)[0]).len(), 30);
    }
}

#[test]
fn an_encoder_that_is_asked_for_and_does_not_work_is_an_error() {
    init();
    let feed = Feed::ready("encoder=nvv4l2h264enc", true, 64);
    assert!(feed.set_state(gst::State::Playing).is_err());
    let errors = feed.errors();
    // With its reason, and with what there is.
    for text in ["nvv4l2h264enc", "/proc/none/there", "v4l2h264enc, x264enc"] {
        assert!(
            errors.iter().any(|error| error.contains(text)),
            "{errors:?}"
        );
    }
}
