//! The thread that fires pulses at their time.

use super::imp::VadLiteTrigger;
use super::parts::{Frame, Parts, Reason, Taken};
use super::settings::{FailSafe, Live};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What the streaming thread and the firing thread share.
#[derive(Default)]
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    parts: Parts,
    playing: bool,
    stopping: bool,
    /// Running time of the last inspected frame's arrival, or of what took its place: the start, or the last alarm.
    inspected: Option<u64>,
    /// The watchdog has barked since the last inspected frame.
    alarmed: bool,
}

impl Schedule {
    /// Takes a frame in at the running time `now`.
    pub fn frame(&self, frame: Frame, inspected: bool, live: &Live, now: Option<u64>) -> Taken {
        let mut state = self.state.lock();
        if inspected {
            state.alarmed = false;
            state.inspected = now;
        } else if state.inspected.is_none() {
            state.inspected = now;
        }
        let now = now.unwrap_or(0);
        let taken = state
            .parts
            .frame(frame, live.merge_window, live.way_to_gate(), now);
        if taken == Taken::Part || inspected {
            self.changed.notify_all();
        }
        taken
    }

    /// Time goes on, or stands still.
    pub fn set_playing(&self, playing: bool) {
        let mut state = self.state.lock();
        state.playing = playing;
        // What was before a pause does not count.
        state.inspected = None;
        self.changed.notify_all();
    }

    /// Forgets the parts on their way.
    pub fn clear(&self) {
        self.state.lock().parts.clear();
        self.changed.notify_all();
    }

    /// The time of firing, or what depends on it, has changed.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits until all parts on their way have been at the gate, as long as time goes on.
    pub fn drain(&self) {
        let mut state = self.state.lock();
        while state.playing && !state.stopping && state.parts.next_due().is_some() {
            self.changed.wait_for(&mut state, Duration::from_millis(50));
        }
    }

    /// Ends the thread, and whoever waits in [`Schedule::drain`].
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Starts the thread that fires for `element`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        self: &Arc<Self>,
        element: &super::VadLiteTrigger,
    ) -> std::io::Result<JoinHandle<()>> {
        let (schedule, element) = (self.clone(), element.downgrade());
        std::thread::Builder::new()
            .name("vadlitetrigger".into())
            .spawn(move || schedule.run(&element))
    }

    fn run(&self, element: &glib::WeakRef<super::VadLiteTrigger>) {
        let mut state = self.state.lock();
        while !state.stopping {
            let Some(element) = element.upgrade() else {
                return;
            };
            let imp: &VadLiteTrigger = element.imp();
            let live = imp.live();
            let now = state
                .playing
                .then(|| element.current_running_time())
                .flatten();
            let mut wait = None;
            if let Some(now) = now.map(gst::ClockTime::nseconds) {
                if let Some(part) = state.parts.at_gate(now, live.decision.into()) {
                    // Outputs and bus handlers run without the lock.
                    drop(state);
                    imp.fire(part, now, &live);
                    state = self.state.lock();
                    continue;
                }
                let alarm = match live.watchdog {
                    0 => None,
                    limit => Some(state.inspected.get_or_insert(now).saturating_add(limit)),
                };
                if alarm.is_some_and(|alarm| alarm <= now) {
                    let first = !std::mem::replace(&mut state.alarmed, true);
                    state.inspected = Some(now);
                    if live.fail_safe == FailSafe::Reject {
                        let frame = Frame::uninspected(u64::MAX, now);
                        state
                            .parts
                            .frame(frame, live.merge_window, live.way_to_gate(), now);
                    }
                    if first {
                        drop(state);
                        imp.warn_of_silence(&live);
                        state = self.state.lock();
                    }
                    continue;
                }
                let next = state.parts.next_due().into_iter().chain(alarm).min();
                wait = next.map(|next| Duration::from_nanos(next - now));
            }
            drop(element);
            match wait {
                Some(wait) => _ = self.changed.wait_for(&mut state, wait),
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl Frame {
    /// A frame that is rejected because nobody knows what it shows.
    pub fn uninspected(number: u64, time: u64) -> Self {
        Self {
            number,
            time,
            score: 0.0,
            threshold: 0.0,
            flagged: true,
            reason: Reason::FailSafe,
        }
    }
}
