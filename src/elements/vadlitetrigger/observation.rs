//! What the results on one frame say together, of however many `vadlite` there were.

use crate::video::meta::{FieldError, FrameResult, PartResult, Reason};
use smallvec::SmallVec;

/// Whether a frame was looked at. In this order one result prevails over another on the same frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inspection {
    /// It was left out on purpose.
    Skipped,
    Inspected,
    /// It was to be inspected and was not: by one `vadlite` of several, or by any.
    Failed,
}

/// What is known of one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Its number; `None` where no result has one.
    pub frame: Option<u64>,
    /// Frames missing before it: before `vadlite` as its result says, and between there and here.
    pub lost: u64,
    /// The score that is largest relative to its threshold, and that threshold; 0 where there is no result.
    pub score: f64,
    pub threshold: f64,
    /// By any of the results, as a whole: parts that are located are judged by themselves, see [`PartView`].
    pub flagged: bool,
    pub inspection: Inspection,
    /// Whether parts were located in it, of which there may be none.
    pub located: bool,
}

/// What tells a part from all others: which of the results on a frame has it, how often that `vadlite` was started, and its id there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    result: usize,
    start: u32,
    pub id: u64,
}

/// A located part in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartView {
    pub key: Key,
    /// The frame's number.
    pub frame: u64,
    /// Its middle, to the right and down of the frame's, in widths of the frame.
    pub x: f32,
    pub y: f32,
    /// Half the longer side of the box around it, in the same.
    pub reach: f32,
    pub flagged: bool,
    /// Whether all of it is in the frame.
    pub complete: bool,
    /// Whether it was judged.
    pub inspected: bool,
    pub score: f64,
    pub threshold: f64,
}

#[cfg(test)]
impl Key {
    /// Of the first result on a frame.
    pub fn of(id: u64) -> Self {
        Self {
            result: 0,
            start: 0,
            id,
        }
    }
}

impl PartView {
    fn new(key: Key, result: &FrameResult<'_>, part: &PartResult) -> Self {
        let shape = result.size.height as f32 / result.size.width.max(1) as f32;
        Self {
            key,
            frame: result.frame,
            x: part.x - 0.5,
            y: (part.y - 0.5) * shape,
            reach: 0.5 * part.width.max(part.height * shape),
            flagged: part.flagged,
            complete: part.complete,
            inspected: part.inspected,
            score: part.score,
            threshold: result.threshold,
        }
    }

    /// Whether its middle is where it is seen: not what the frame's edge leaves of it, and nothing between parts that seem to touch.
    pub fn is_located(&self) -> bool {
        self.complete && self.inspected
    }

    /// Takes in what another `vadlite` says of the same part.
    fn join(&mut self, other: &Self) {
        self.flagged |= other.flagged;
        self.inspected &= other.inspected;
        if relative(other.score, other.threshold) > relative(self.score, self.threshold) {
            (self.score, self.threshold) = (other.score, other.threshold);
            self.frame = other.frame;
        }
    }
}

/// What the results on a frame say.
#[derive(Debug)]
pub struct Reading {
    pub observation: Observation,
    pub parts: SmallVec<[PartView; 8]>,
    /// The first error among results that cannot be read. These count as not inspected, as does a frame without a result.
    pub unreadable: Option<FieldError>,
}

impl Observation {
    /// A frame that nobody knows anything of.
    pub fn uninspected(frame: Option<u64>) -> Self {
        Self {
            frame,
            lost: 0,
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            inspection: Inspection::Failed,
            located: false,
        }
    }

    fn add(&mut self, result: &FrameResult<'_>) {
        let parts = result.parts.as_deref();
        self.located |= parts.is_some();
        let by_part = parts.is_some_and(|parts| parts.iter().any(|part| part.flagged));
        let count = result.reason == Some(Reason::Count);
        self.flagged |= result.flagged && (count || !by_part);
        let more = relative(result.score, result.threshold) > relative(self.score, self.threshold);
        if self.frame.is_none() || more {
            self.frame = Some(result.frame);
            (self.score, self.threshold) = (result.score, result.threshold);
        }
    }
}

/// Reads the results on the frames of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last number that each of the results had, in their order on a frame, and how often its `vadlite` was started.
    numbers: SmallVec<[(u64, u32); 4]>,
}

impl Reader {
    /// What the results on a frame say.
    pub fn read(&mut self, buffer: &gst::BufferRef) -> Reading {
        let mut observation = Observation::uninspected(None);
        let mut inspection = None;
        let mut unreadable = None;
        let mut parts = SmallVec::<[PartView; 8]>::new();
        let mut index = 0;
        FrameResult::read_all(buffer, |result| {
            let one = match &result {
                Ok(result) if result.inspected => Inspection::Inspected,
                Ok(result) if result.skipped => Inspection::Skipped,
                _ => Inspection::Failed,
            };
            inspection = inspection.max(Some(one));
            match result {
                Ok(result) => {
                    let (between, start) = self.missing(index, result.frame);
                    observation.lost = observation.lost.max(result.lost.saturating_add(between));
                    observation.add(&result);
                    for part in result.parts.as_deref().unwrap_or_default() {
                        let key = Key {
                            result: index,
                            start,
                            id: part.id,
                        };
                        let view = PartView::new(key, &result, part);
                        // Two that look at the same frame find the same parts.
                        let same = parts.iter_mut().find(|known| {
                            let off = (known.x - view.x).hypot(known.y - view.y);
                            known.key.result != index && off < known.reach.min(view.reach)
                        });
                        match same {
                            Some(known) => known.join(&view),
                            None => parts.push(view),
                        }
                    }
                }
                Err(error) => unreadable = unreadable.take().or(Some(error)),
            }
            index += 1;
        });
        observation.inspection = inspection.unwrap_or(Inspection::Failed);
        Reading {
            observation,
            parts,
            unreadable,
        }
    }

    /// How many numbers are left out before this one, and how often its `vadlite` was started: a number that does not go on is that of one
    /// that was started anew.
    fn missing(&mut self, index: usize, number: u64) -> (u64, u32) {
        match self.numbers.get_mut(index) {
            Some((last, starts)) => {
                let last = std::mem::replace(last, number);
                *starts += u32::from(number <= last);
                (number.saturating_sub(last).saturating_sub(1), *starts)
            }
            None => {
                self.numbers.push((number, 0));
                (0, 0)
            }
        }
    }
}

/// A score in thresholds. What is above a threshold of 0 is as far above it as can be; what is no number speaks for nothing.
fn relative(score: f64, threshold: f64) -> f64 {
    let ratio = score / threshold;
    if threshold > 0.0 && !ratio.is_nan() {
        ratio
    } else if score > threshold {
        f64::INFINITY
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::meta;
    use proptest::prelude::*;

    const INSPECTED: (bool, bool) = (true, false);
    const SKIPPED: (bool, bool) = (false, true);
    const FAILED: (bool, bool) = (false, false);

    fn result(frame: u64, score: f64, threshold: f64, how: (bool, bool)) -> FrameResult<'static> {
        FrameResult {
            score,
            threshold,
            flagged: how == INSPECTED && score > threshold,
            inspected: how.0,
            skipped: how.1,
            drawn: false,
            frame,
            lost: 0,
            model: "made-up.vadlite".into(),
            latency: 1,
            size: crate::geometry::Size::new(240, 320),
            regions: Vec::new().into(),
            map: None,
            parts: None,
            reason: None,
        }
    }

    fn buffer(results: &[FrameResult<'_>]) -> gst::Buffer {
        gst::init().unwrap();
        meta::register();
        let mut buffer = gst::Buffer::new();
        for result in results {
            result.write(buffer.get_mut().unwrap()).unwrap();
        }
        buffer
    }

    fn read(results: &[FrameResult<'_>]) -> Observation {
        let reading = Reader::default().read(&buffer(results));
        assert_eq!(reading.unreadable, None);
        reading.observation
    }

    #[test]
    fn one_result_is_what_it_says() {
        let seen = Observation {
            frame: Some(3),
            lost: 0,
            score: 2.0,
            threshold: 1.5,
            flagged: true,
            inspection: Inspection::Inspected,
            located: false,
        };
        assert_eq!(read(&[result(3, 2.0, 1.5, INSPECTED)]), seen);
        assert_eq!(read(&[]), Observation::uninspected(None));
        let skipped = read(&[result(3, 0.0, 1.5, SKIPPED)]);
        assert_eq!(skipped.inspection, Inspection::Skipped);
        assert_eq!(skipped.frame, Some(3));
    }

    #[test]
    fn of_several_results_any_flagged_is_flagged_and_the_largest_speaks() {
        // Two models score in numbers of their own: 30 of 100 is less than 2 of 1.5.
        let of_two = read(&[
            result(3, 30.0, 100.0, INSPECTED),
            result(4, 2.0, 1.5, INSPECTED),
        ]);
        assert!(of_two.flagged);
        assert_eq!(
            (of_two.frame, of_two.score, of_two.threshold),
            (Some(4), 2.0, 1.5)
        );
        assert_eq!(of_two.inspection, Inspection::Inspected);
    }

    #[test]
    fn a_frame_is_inspected_if_each_has_that_was_to() {
        let inspection = |how: &[(bool, bool)]| {
            let results: Vec<_> = how.iter().map(|&how| result(0, 0.5, 1.0, how)).collect();
            read(&results).inspection
        };
        assert_eq!(inspection(&[INSPECTED, SKIPPED]), Inspection::Inspected);
        assert_eq!(inspection(&[SKIPPED, SKIPPED]), Inspection::Skipped);
        assert_eq!(inspection(&[INSPECTED, FAILED]), Inspection::Failed);
        assert_eq!(inspection(&[FAILED, SKIPPED]), Inspection::Failed);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_inspected() {
        let mut buffer = buffer(&[result(3, 2.0, 1.0, INSPECTED)]);
        gst::meta::CustomMeta::add(buffer.get_mut().unwrap(), meta::META_NAME)
            .unwrap()
            .mut_structure()
            .set("score", "high");
        let Reading {
            observation,
            unreadable,
            ..
        } = Reader::default().read(&buffer);
        assert_eq!(unreadable.unwrap().field, "score");
        assert_eq!(observation.inspection, Inspection::Failed);
        // What could be read still counts.
        assert!(observation.flagged);
        assert_eq!((observation.frame, observation.score), (Some(3), 2.0));
    }

    #[test]
    fn frames_missing_before_and_between_the_elements_are_told() {
        let mut reader = Reader::default();
        let mut lost = |numbers: &[(u64, u64)]| {
            let results: Vec<_> = numbers
                .iter()
                .map(|&(frame, lost)| FrameResult {
                    lost,
                    ..result(frame, 0.5, 1.0, INSPECTED)
                })
                .collect();
            reader.read(&buffer(&results)).observation.lost
        };
        // Of two elements one has begun later.
        assert_eq!(lost(&[(5, 0), (2, 0)]), 0);
        assert_eq!(lost(&[(6, 0), (3, 0)]), 0);
        assert_eq!(lost(&[(7, 2), (4, 0)]), 2);
        // Two are missing between there and here, and one before.
        assert_eq!(lost(&[(10, 0), (7, 1)]), 3);
        assert_eq!(lost(&[]), 0);
        assert_eq!(lost(&[(12, 0), (9, 0)]), 1);
        // The first was started anew.
        assert_eq!(lost(&[(0, 0), (10, 0)]), 0);
        assert_eq!(lost(&[(u64::MAX, u64::MAX), (11, 0)]), u64::MAX);
    }

    fn part(id: u64, x: f32, score: f64) -> PartResult {
        PartResult {
            id,
            x,
            y: 0.5,
            width: 0.2,
            height: 0.2,
            angle: 0.0,
            score,
            flagged: score > 1.0,
            complete: true,
            inspected: true,
        }
    }

    fn with_parts(frame: u64, parts: &[PartResult]) -> FrameResult<'static> {
        let flagged = parts.iter().any(|part| part.flagged);
        FrameResult {
            flagged,
            parts: Some(parts.to_vec().into()),
            reason: flagged.then_some(Reason::Score),
            ..result(frame, 0.5, 1.0, INSPECTED)
        }
    }

    #[test]
    fn parts_are_judged_by_themselves_and_a_wrong_number_of_them_as_a_whole() {
        let parts = [part(1, 0.2, 2.0), part(2, 0.7, 0.5)];
        let reading = Reader::default().read(&buffer(&[with_parts(3, &parts)]));
        assert!(reading.observation.located && !reading.observation.flagged);
        let told: Vec<_> = reading
            .parts
            .iter()
            .map(|part| (part.key.id, part.flagged))
            .collect();
        assert_eq!(told, [(1, true), (2, false)]);
        // To the left of the middle, in widths of a frame of 320 x 240.
        assert!((reading.parts[0].x + 0.3).abs() < 1e-6 && reading.parts[0].y == 0.0);
        let counted = FrameResult {
            flagged: true,
            reason: Some(Reason::Count),
            ..with_parts(4, &parts[1..])
        };
        assert!(
            Reader::default()
                .read(&buffer(&[counted]))
                .observation
                .flagged
        );
        assert!(!read(&[result(5, 0.5, 1.0, INSPECTED)]).located);
    }

    #[test]
    fn two_that_find_the_same_part_speak_of_one() {
        let good = with_parts(3, &[part(7, 0.2, 0.5), part(8, 0.7, 0.5)]);
        let bad = with_parts(3, &[part(1, 0.71, 3.0)]);
        let reading = Reader::default().read(&buffer(&[good, bad]));
        let told: Vec<_> = reading
            .parts
            .iter()
            .map(|part| (part.key.id, part.flagged, part.score))
            .collect();
        assert_eq!(told, [(7, false, 0.5), (8, true, 3.0)]);
    }

    #[test]
    fn the_ids_of_an_element_that_was_started_anew_are_others() {
        let mut reader = Reader::default();
        let mut key = |frame| {
            let results = [with_parts(frame, &[part(1, 0.5, 0.5)])];
            reader.read(&buffer(&results)).parts[0].key
        };
        let first = key(5);
        assert_eq!(key(6), first);
        assert_ne!(key(0), first);
    }

    proptest! {
        /// The order in which elements attach their results decides nothing but between equals.
        #[test]
        fn order_does_not_matter(results in prop::collection::vec((0.0f64..4.0, 0.0f64..2.0, 0usize..3), 1..5)) {
            let results: Vec<_> = (0..).zip(results).map(|(frame, (score, threshold, how))| {
                result(frame, score, threshold, [INSPECTED, SKIPPED, FAILED][how])
            }).collect();
            let reversed: Vec<_> = results.iter().rev().cloned().collect();
            let (one, other) = (read(&results), read(&reversed));
            prop_assert_eq!((one.flagged, one.inspection), (other.flagged, other.inspection));
            prop_assert_eq!(relative(one.score, one.threshold), relative(other.score, other.threshold));
            let failed = results.iter().any(|result| !result.inspected && !result.skipped);
            prop_assert_eq!(one.inspection == Inspection::Failed, failed);
            prop_assert_eq!(one.flagged, results.iter().any(|result| result.flagged));
        }
    }
}
