//! What waits for the recorder: bounded, so that a slow disk costs frames and not memory.

use super::incident::FlaggedFrame;
use super::picture::HeldFrame;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// Encoded frames that may wait, in number and in bytes.
const FRAMES: usize = 1000;
pub const BYTES: usize = 64 << 20;
/// Flagged results that may wait, which are few bytes each.
const RESULTS: usize = 10_000;

/// What the pipeline's threads hand on.
pub enum Message {
    Flagged(Box<Flagged>),
    /// An encoded frame and its format.
    Encoded(gst::Sample),
    /// The frames to come do not follow on those before.
    Cut,
    /// The stream has ended; answered once the last incident is on the disk.
    End(Sender<()>),
}

/// A flagged result and the frame that it is of.
pub struct Flagged {
    pub result: FlaggedFrame,
    /// None where the recorder is so far behind that more frames may not be held.
    pub held: Option<HeldFrame>,
}

/// Why a frame or a result is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The recorder is behind, or was and the next key frame has not come: those before it show nothing without what was refused.
    Full,
    /// The stream is flushed or stops, or nobody records any more.
    Closed,
}

/// What [`Inbox::take`] has found.
pub enum Taken {
    Message(Message),
    /// Nothing has come by the time that was asked for.
    Late,
    /// Nothing will come any more.
    Closed,
}

/// A queue from the pipeline's threads to the recorder.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    frames: usize,
    bytes: usize,
    results: usize,
    /// A frame was refused: only a key frame can follow.
    broken: bool,
    /// Nobody may be held up.
    flushing: bool,
    /// Who is held up is let go, with its frame.
    pausing: bool,
    /// One of the ends is gone.
    closed: bool,
}

impl Inbox {
    /// Appends an encoded frame; `wait`: as soon as there is room for it, or the pipeline pauses.
    ///
    /// # Errors
    /// The frame is not taken.
    pub fn add_frame(&self, sample: gst::Sample, wait: bool) -> Result<(), Refusal> {
        let (size, key) = sample.buffer().map_or((0, true), |buffer| {
            let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            (buffer.size(), !delta)
        });
        let mut state = self.state.lock();
        // One alone is taken, however large.
        let full = |state: &State| {
            state.frames > 0 && (state.frames >= FRAMES || state.bytes + size > BYTES)
        };
        while wait && full(&state) && !state.flushing && !state.pausing && !state.closed {
            self.changed.wait(&mut state);
        }
        if state.closed || (wait && state.flushing && full(&state)) {
            return Err(Refusal::Closed);
        }
        // A sink that pauses lets no other frame come: this is the only one that there is no room for.
        let over = wait && state.pausing;
        if (full(&state) && !over) || (state.broken && !key) {
            state.broken = true;
            return Err(Refusal::Full);
        }
        state.broken = false;
        state.frames += 1;
        state.bytes += size;
        state.messages.push_back(Message::Encoded(sample));
        self.changed.notify_all();
        Ok(())
    }

    /// Appends a flagged result.
    ///
    /// # Errors
    /// The result is not taken.
    pub fn add_result(&self, flagged: Box<Flagged>) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.results >= RESULTS {
            return Err(Refusal::Full);
        }
        state.results += 1;
        state.messages.push_back(Message::Flagged(flagged));
        self.changed.notify_all();
        Ok(())
    }

    /// Appends what is neither, and is always taken unless nobody is there.
    pub fn add(&self, message: Message) {
        let mut state = self.state.lock();
        if !state.closed {
            state.messages.push_back(message);
            self.changed.notify_all();
        }
    }

    /// Whether the streaming threads may be held up.
    pub fn set_flushing(&self, flushing: bool) {
        self.state.lock().flushing = flushing;
        self.changed.notify_all();
    }

    /// Whether the pipeline pauses, or stops: a sink does so only when the thread that brings its frames has come back.
    pub fn set_pausing(&self, pausing: bool) {
        self.state.lock().pausing = pausing;
        self.changed.notify_all();
    }

    /// Why nobody is to wait, if so.
    pub fn is_let_go(&self) -> Option<&'static str> {
        let state = self.state.lock();
        match (state.flushing, state.pausing) {
            (true, _) => Some("it is flushed"),
            (false, true) => Some("it pauses or stops"),
            (false, false) => None,
        }
    }

    /// The next message, which is waited for until `deadline`.
    pub fn take(&self, deadline: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        loop {
            if let Some(message) = state.messages.pop_front() {
                match &message {
                    Message::Encoded(sample) => {
                        state.frames -= 1;
                        state.bytes -= sample.buffer().map_or(0, |buffer| buffer.size());
                    }
                    Message::Flagged(_) => state.results -= 1,
                    Message::Cut | Message::End(_) => {}
                }
                self.changed.notify_all();
                return Taken::Message(message);
            }
            if state.closed {
                return Taken::Closed;
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) if self.changed.wait_until(&mut state, deadline).timed_out() => {
                    return match state.messages.is_empty() {
                        true if state.closed => Taken::Closed,
                        true => Taken::Late,
                        false => continue,
                    };
                }
                Some(_) => {}
            }
        }
    }

    /// Nothing is taken any more; what waits can still be taken out.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

/// The recorder's end: gone with it, whatever it ends by, so that nobody waits for who is gone.
pub struct Outlet(pub Arc<Inbox>);

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.close();
        let left = std::mem::take(&mut self.0.state.lock().messages);
        // With no lock held: who waits for an answer learns that there is none.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn sample(bytes: usize, key: bool) -> gst::Sample {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::with_size(bytes).unwrap();
        if !key {
            let inner = buffer.get_mut().unwrap();
            inner.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        gst::Sample::builder().buffer(&buffer).build()
    }

    fn taken(inbox: &Inbox) -> bool {
        matches!(
            inbox.take(Some(Instant::now())),
            Taken::Message(Message::Encoded(_))
        )
    }

    #[test]
    fn what_is_too_much_is_refused_up_to_the_next_key_frame() {
        let inbox = Inbox::default();
        assert_eq!(inbox.add_frame(sample(BYTES - 10, true), false), Ok(()));
        assert_eq!(inbox.add_frame(sample(10, false), false), Ok(()));
        let full = Err(Refusal::Full);
        assert_eq!(inbox.add_frame(sample(1, false), false), full);
        assert!(taken(&inbox) && taken(&inbox) && !taken(&inbox));
        // There is room, but what comes shows nothing without what was refused.
        assert_eq!(inbox.add_frame(sample(1, false), false), full);
        assert_eq!(inbox.add_frame(sample(1, true), false), Ok(()));
        assert_eq!(inbox.add_frame(sample(1, false), false), Ok(()));
        assert!(taken(&inbox) && taken(&inbox));
        for _ in 0..FRAMES {
            assert_eq!(inbox.add_frame(sample(1, true), false), Ok(()));
        }
        assert_eq!(inbox.add_frame(sample(1, true), false), full);
    }

    #[test]
    fn one_that_waits_is_let_go_by_room_and_by_a_flush() {
        let inbox = Arc::new(Inbox::default());
        let (tell, told) = channel();
        let waits = |inbox: Arc<Inbox>, tell: Sender<_>| {
            std::thread::spawn(move || tell.send(inbox.add_frame(sample(BYTES, true), true)))
        };
        inbox.add_frame(sample(BYTES, true), true).unwrap();
        let first = waits(inbox.clone(), tell.clone());
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
        assert!(taken(&inbox));
        assert_eq!(told.recv().unwrap(), Ok(()));
        let second = waits(inbox.clone(), tell.clone());
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
        inbox.set_flushing(true);
        assert_eq!(told.recv().unwrap(), Err(Refusal::Closed));
        for thread in [first, second] {
            thread.join().unwrap().unwrap();
        }
    }

    /// A sink pauses only when the thread that brings its frames has come back: with that one, and none is lost.
    #[test]
    fn one_that_waits_is_let_go_by_a_pause_with_its_frame() {
        let inbox = Arc::new(Inbox::default());
        inbox.add_frame(sample(BYTES, true), true).unwrap();
        let its = inbox.clone();
        let waits = std::thread::spawn(move || its.add_frame(sample(1, true), true));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished());
        inbox.set_pausing(true);
        assert_eq!(waits.join().unwrap(), Ok(()));
        // A live source's frames have no more room than before.
        let full = Err(Refusal::Full);
        assert_eq!(inbox.add_frame(sample(1, true), false), full);
        inbox.set_pausing(false);
        assert!(taken(&inbox) && taken(&inbox) && !taken(&inbox));
    }

    #[test]
    fn who_waits_for_a_recorder_that_is_gone_is_told() {
        let inbox = Arc::new(Inbox::default());
        let outlet = Outlet(inbox.clone());
        let (done, answer) = channel();
        inbox.add(Message::End(done));
        drop(outlet);
        assert!(answer.recv().is_err());
        assert!(matches!(inbox.take(None), Taken::Closed));
        assert_eq!(inbox.add_frame(sample(1, true), true), Err(Refusal::Closed));
    }
}
