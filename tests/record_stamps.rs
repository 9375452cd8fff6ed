//! `vadliterecord` from a camera that stamps its frames by a clock of its own, from the first one on.

mod common;

use common::recordings::{FRAME, Feed, folder, json, play, videos};
use gst::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// Frames that wait for the encoder.
fn waiting(feed: &Feed) -> u32 {
    let children = feed.element.downcast_ref::<gst::Bin>().unwrap().children();
    let is_queue = |child: &gst::Element| child.factory().is_some_and(|it| it.name() == "queue");
    let queue = children.into_iter().find(is_queue);
    queue.unwrap().property("current-level-buffers")
}

/// Since an hour before, or since 1970: incidents are as long as they would be on the pipeline's clock, and nothing is missing or said.
#[test]
fn frames_on_a_clock_of_their_own_from_the_first_on_are_recorded_like_others() {
    for (name, ahead) in [("hour", 3_600 * SECOND), ("epoch", 1_795_000_000 * SECOND)] {
        let folder = folder(&format!("stamps {name}"));
        let properties = format!(
            "location=\"{}\" encoder=jpegenc pre-roll=500000000 post-roll=500000000",
            folder.display()
        );
        let mut feed = Feed::new(&properties, true, 64);
        for frame in 0..90 {
            feed.push(Some(ahead + frame * FRAME), [40, 45].contains(&frame));
            // A camera is not as fast as this test.
            feed.wait_until("an encoder without work", |feed| waiting(feed) < 10);
        }
        feed.end();
        assert_eq!(feed.warnings(), Vec::<String>::new());
        for count in ["jumps", "untimed", "dropped", "failed", "missed"] {
            assert_eq!(feed.stat(count), 0, "{name}: {count}");
        }
        let [video] = &videos(&folder)[..] else {
            panic!("{name}: not one video");
        };
        // From half a second before the first to half a second after the last, but for where a frame begins.
        let times = play(video);
        assert!((34..=37).contains(&times.len()), "{name}: {}", times.len());
        assert!(times[0] < SECOND / 10, "{name}: {}", times[0]);
        for pair in times.windows(2) {
            // Matroska keeps milliseconds.
            assert!(
                (pair[1] - pair[0]).abs_diff(FRAME) <= 1_000_000,
                "{name}: {pair:?}"
            );
        }
        let told = json(video);
        assert_eq!(told["complete"], true);
        let flagged = told["flagged"].as_array().unwrap();
        assert_eq!(flagged.len(), 2, "{name}: {told}");
        let frames: Vec<_> = flagged.iter().map(|one| one["frame"].as_u64()).collect();
        assert_eq!(frames, [Some(40), Some(45)]);
    }
}
