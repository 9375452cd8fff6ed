//! How many bits of 16 the samples of a camera use: as many as its brightest pixel needs.

use std::fmt;

/// Bits that an image may use fewer than the model's: a dark one does.
const DARKER: u8 = 2;
/// Frames that have to be dark, one and all, before it is said that they use fewer bits: of one it is the lamp.
const DARK_FRAMES: u32 = 100;
/// After so many, one frame in this many is looked at: all of its pixels are, and a camera does not change its bits for one frame.
const LATER: u32 = 16;

/// Bits that samples up to `largest` use: as many as cameras have.
pub fn bits_of(largest: u16) -> u8 {
    let bits = (u16::BITS - largest.leading_zeros()) as u8;
    bits.max(8).next_multiple_of(2)
}

/// The largest number of so many bits; of all 16 where nothing is known.
fn white(bits: Option<u8>) -> u16 {
    let unused = u32::from(16u8.saturating_sub(bits.unwrap_or(16)));
    u16::MAX.checked_shr(unused).unwrap_or(0)
}

/// That images use other bits than those that the model was learnt from, in words that follow on "it".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherBits {
    /// The largest sample.
    largest: u16,
    learnt: Option<u8>,
}

impl OtherBits {
    /// `None` where samples up to `largest` are as in a model of `learnt` bits (`None`: it was not learnt from samples of 16).
    pub fn find(largest: u16, learnt: Option<u8>) -> Option<Self> {
        let other = Self { largest, learnt };
        let dark = bits_of(largest) + DARKER < learnt.unwrap_or(16);
        (other.are_more() || dark).then_some(other)
    }

    /// Whether they are more than the model's.
    pub fn are_more(self) -> bool {
        self.largest > white(self.learnt)
    }
}

impl fmt::Display for OtherBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (largest, white) = (self.largest, white(self.learnt));
        if self.are_more() {
            write!(f, "holds samples up to {largest}, and ")?;
        } else {
            let used = bits_of(largest);
            write!(f, "uses {used} of 16 bits (up to {largest}), and ")?;
        }
        match self.learnt {
            Some(bits) => write!(f, "the model was learnt from images of {bits} bits: ")?,
            None => f.write_str("the model was not learnt from such images: ")?,
        }
        match self.are_more() {
            true => write!(f, "what is above {white} counts as white"),
            false => write!(f, "{white} counts as white, so that it is dark"),
        }
    }
}

/// Watches the frames that a model inspects for other bits than its own: fewer are found after `DARK_FRAMES` frames, more at once until
/// then and within `LATER` frames afterwards.
#[derive(Debug)]
pub struct BitsWatch {
    learnt: Option<u8>,
    /// Looked at, and next to be passed over.
    frames: u32,
    pass_over: u32,
    largest: u16,
    told: bool,
}

impl BitsWatch {
    /// For a model of so many bits; `None`: it was not learnt from samples of 16.
    pub fn new(learnt: Option<u8>) -> Self {
        Self {
            learnt,
            frames: 0,
            pass_over: 0,
            largest: 0,
            told: false,
        }
    }

    /// What is to be told, once, with the next frame, whose largest sample `largest` finds where it has samples of 16 bits.
    pub fn look(&mut self, largest: impl FnOnce() -> Option<u16>) -> Option<OtherBits> {
        if self.told || self.pass_over > 0 {
            self.pass_over = self.pass_over.saturating_sub(1);
            return None;
        }
        self.largest = self.largest.max(largest()?);
        self.frames = self.frames.saturating_add(1);
        if self.frames >= DARK_FRAMES {
            self.pass_over = LATER - 1;
        }
        let other = OtherBits::find(self.largest, self.learnt);
        let certain = |other: &OtherBits| other.are_more() || self.frames == DARK_FRAMES;
        let told = other.filter(|other| !self.told && certain(other));
        self.told |= told.is_some();
        told
    }
}

/// The bits of all frames so far that are learnt from.
#[derive(Debug, Default)]
pub struct LearntBits(Option<u8>);

impl LearntBits {
    /// Takes in a frame's largest sample; returns whether its bits are more than those of the frames before, which are too bright then.
    pub fn look(&mut self, largest: u16) -> bool {
        let (used, before) = (bits_of(largest), self.0);
        self.0 = Some(used.max(before.unwrap_or(0)));
        before.is_some_and(|before| used > before)
    }

    /// `None` while no frame has samples of 16 bits.
    pub fn used(&self) -> Option<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_cameras() {
        for (largest, bits) in [
            (0, 8),
            (255, 8),
            (256, 10),
            (1023, 10),
            (3000, 12),
            (4095, 12),
            (9000, 14),
            (65535, 16),
        ] {
            assert_eq!(bits_of(largest), bits, "{largest}");
        }
    }

    #[test]
    fn white_is_the_largest_number() {
        for (bits, largest) in [
            (None, 65535),
            (Some(16), 65535),
            (Some(12), 4095),
            (Some(8), 255),
        ] {
            assert_eq!(white(bits), largest);
        }
        assert_eq!((white(Some(0)), white(Some(255))), (0, 65535));
    }

    #[test]
    fn more_bits_are_told_at_once_and_once() {
        let mut watch = BitsWatch::new(Some(12));
        assert_eq!(watch.look(|| Some(4095)), None);
        let told = watch.look(|| Some(4096)).unwrap().to_string();
        assert_eq!(
            told,
            "holds samples up to 4096, and the model was learnt from images of 12 bits: what is above 4095 counts as white"
        );
        // Not even looked at any more.
        assert_eq!(watch.look(|| unreachable!()), None);
        // Late as well, within a few frames.
        let mut watch = BitsWatch::new(Some(12));
        for _ in 0..1000 {
            assert_eq!(watch.look(|| Some(3000)), None);
        }
        let later = (0..LATER).filter_map(|_| watch.look(|| Some(5000)));
        assert_eq!(later.count(), 1);
    }

    #[test]
    fn fewer_bits_are_told_of_many_frames_and_never_of_a_dark_one() {
        let dark = |watch: &mut BitsWatch, frames| {
            let mut told = (0..frames).filter_map(|_| watch.look(|| Some(1000)));
            told.next().map(|told| told.to_string())
        };
        for learnt in [None, Some(16), Some(14)] {
            let mut watch = BitsWatch::new(learnt);
            assert_eq!(dark(&mut watch, DARK_FRAMES - 1), None);
            let told = dark(&mut watch, 1).unwrap();
            assert!(
                told.starts_with("uses 10 of 16 bits (up to 1000)"),
                "{told}"
            );
            assert_eq!(dark(&mut watch, 1000), None);
        }
        // One bright frame, or two bits fewer: the lamp is off.
        let mut watch = BitsWatch::new(Some(14));
        watch.look(|| Some(10_000));
        assert_eq!(dark(&mut watch, 1000), None);
        assert_eq!(dark(&mut BitsWatch::new(Some(12)), 1000), None);
        // Frames of another format say nothing.
        let mut watch = BitsWatch::new(None);
        dark(&mut watch, DARK_FRAMES - 1);
        assert_eq!(watch.look(|| None), None);
        assert!(dark(&mut watch, 1).is_some());
    }

    #[test]
    fn what_is_learnt_from_has_the_bits_of_its_brightest_frame() {
        let mut bits = LearntBits::default();
        assert_eq!(bits.used(), None);
        let grown = [3, 200, 900, 100, 1023, 3000, 65535, 4000].map(|largest| bits.look(largest));
        assert_eq!(grown, [false, false, true, false, false, true, true, false]);
        assert_eq!(bits.used(), Some(16));
    }
}
