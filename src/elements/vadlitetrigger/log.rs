//! How frames, parts and decisions stand in the log.

use super::observation::{Inspection, Observation, PartView};
use super::parts::{Association, MOST, Part};
use crate::elements::time;
use std::fmt::{self, Display, Formatter};

/// A frame's number, where it has one.
struct Number(Option<u64>);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "frame {number}"),
            None => f.write_str("a frame without a number"),
        }
    }
}

impl Display for Observation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let inspection = match self.inspection {
            Inspection::Inspected => "inspected",
            Inspection::Skipped => "skipped",
            Inspection::Failed => "not inspected",
        };
        write!(
            f,
            "{}: {inspection}, score {} of threshold {}{}",
            Number(self.frame),
            self.score,
            self.threshold,
            if self.flagged { ", flagged" } else { "" }
        )?;
        match self.lost {
            0 => Ok(()),
            lost => write!(f, ", {lost} missing before it"),
        }
    }
}

impl Display for PartView {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let how = match (self.inspected, self.complete) {
            (true, _) if self.flagged => "flagged",
            (true, _) => "good",
            (false, true) => "not located",
            (false, false) => "cut by the edge",
        };
        write!(
            f,
            "{}: part with id {} at {:.3}, {:.3} of the frame's width from its middle: {how}, score {} of threshold {}",
            Number(Some(self.frame)),
            self.key.id,
            self.x,
            self.y,
            self.score,
            self.threshold
        )
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "part {}{} since {}, due at {}{}: {}, {} of {} inspected frames, {} unseen, at worst {} with score {} of threshold {}",
            self.number,
            self.id.map_or_else(String::new, |id| format!(" (id {id})")),
            time::display(self.since),
            time::display(self.due),
            if self.late { " (known too late)" } else { "" },
            self.reason.name(),
            self.flagged,
            self.inspected,
            self.unseen,
            Number(self.worst_frame),
            self.score,
            self.threshold
        )
    }
}

impl Display for Association {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no part"),
            Self::New(part) => write!(f, "begins {part}"),
            Self::Known(part) => write!(f, "belongs to {part}"),
            Self::Gone => f.write_str("belongs to a part that is gone"),
            Self::TooMany => write!(f, "its part passes: {MOST} are on their way"),
        }
    }
}
