//! The thread that does what the schedule asks for, at its time on the gate's clock.

use super::observation::{Observation, PartView};
use super::output::Output;
use super::parts::Part;
use super::pulse::Pulse;
use super::schedule::{Action, Schedule, Seen};
use super::settings::{FailSafe, LiveSettings};
use super::stamps::Arrival;
use super::{CAT, VadLiteTrigger};
use crate::elements::messages::{BusMessage, GateHeld, PulseFired};
use crate::elements::time;
use crate::thread::{self, Owned};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the streaming thread and the firing thread share.
pub struct Gate {
    /// What parts and pulses go by: monotonic, in a pause too, and nobody else's.
    clock: gst::Clock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// What the schedule has asked for last is being done.
    busy: bool,
    /// What the thread waits for on the clock.
    wait: Option<gst::SingleShotClockId>,
    /// A flush: nobody is to be held up.
    flushing: bool,
    end: Option<End>,
}

/// Why the thread does nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Panicked,
}

impl Gate {
    /// Starts the thread that fires for `element`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        element: &VadLiteTrigger,
        outputs: Arc<[Output]>,
        clock: gst::Clock,
    ) -> std::io::Result<(Arc<Self>, Owned)> {
        let gate = Arc::new(Self {
            clock,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (its, element, its_outputs) = (gate.clone(), element.downgrade(), outputs.clone());
        let (told, weak) = (gate.clone(), element.clone());
        let thread = Owned::spawn(
            "vadlitetrigger",
            move || its.run(&element, &its_outputs),
            move |panic| {
                told.end(End::Panicked);
                let Some(element) = weak.upgrade() else {
                    return;
                };
                if element.imp().live_settings().fail_safe == FailSafe::Reject {
                    for output in outputs.iter() {
                        output.hold(true);
                    }
                }
                gst::element_error!(
                    element,
                    gst::CoreError::Thread,
                    ("the thread that fires pulses has failed ({panic}); the gate is without decisions until the pipeline is started anew")
                );
            },
        )?;
        Ok((gate, thread))
    }

    /// The time on the gate's clock, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.clock.time().nseconds()
    }

    /// Takes in what a frame shows that arrives now: as a whole, and of each part that is located.
    ///
    /// # Errors
    /// The thread has failed, which has been posted: frames that nobody decides on do not pass as if somebody did.
    pub fn frame(
        &self,
        observation: Observation,
        located: &[PartView],
        arrival: Arrival,
        settings: &LiveSettings,
    ) -> Result<Seen, gst::FlowError> {
        let mut state = self.state.lock();
        if state.end == Some(End::Panicked) {
            return Err(gst::FlowError::Error);
        }
        let waits = state.schedule.waits_for_frame();
        let before = state.schedule.next_part();
        let now = self.now();
        let seen = state
            .schedule
            .frame(observation, located, arrival, settings, now);
        // Anything else only puts off what the thread waits for.
        let waits = waits || state.schedule.waits_for_frame();
        let part = state.schedule.next_part();
        if waits || part.is_some_and(|part| before.is_none_or(|before| part < before)) {
            self.wake(&state);
        }
        Ok(seen)
    }

    /// The pipeline plays.
    pub fn play(&self) {
        let mut state = self.state.lock();
        state.schedule.play(self.now());
        self.wake(&state);
    }

    /// Running time stands still from here on.
    pub fn pause(&self, running: Option<u64>) {
        self.state.lock().schedule.pause(running, self.now());
    }

    /// A flush has begun: whoever waits in [`Gate::drain`] does so no longer.
    pub fn flush_start(&self) {
        let mut state = self.state.lock();
        state.flushing = true;
        self.wake(&state);
    }

    /// The flush is over; what is on the belt stays there.
    pub fn flush_stop(&self) {
        let mut state = self.state.lock();
        state.flushing = false;
        state.schedule.flush();
    }

    /// The settings are others from now on.
    pub fn settings_changed(&self, settings: &LiveSettings) {
        let mut state = self.state.lock();
        state.schedule.set_speed(settings, self.now());
        self.wake(&state);
    }

    /// At the end of the stream: waits until all that is on its way has been at the gate, as long as the belt goes on.
    pub fn drain(&self) {
        let mut state = self.state.lock();
        state.schedule.end();
        self.wake(&state);
        while state.end.is_none()
            && !state.flushing
            && (state.busy || state.schedule.has_more_to_come())
        {
            self.changed.wait(&mut state);
        }
        state.schedule.drained(self.now());
        self.wake(&state);
    }

    /// Ends the thread, and whoever waits in [`Gate::drain`].
    pub fn stop(&self) {
        self.end(End::Stopped);
    }

    /// Parts that are on their way.
    pub fn parts_on_their_way(&self) -> usize {
        self.state.lock().schedule.parts_on_their_way()
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        self.wake(&state);
    }

    /// Lets all who wait look again. It takes the state so that nobody is between looking and waiting.
    fn wake(&self, state: &State) {
        if let Some(wait) = &state.wait {
            // Unscheduled before it is waited on, it is not waited on.
            wait.unschedule();
        }
        self.changed.notify_all();
    }

    fn run(&self, element: &glib::WeakRef<VadLiteTrigger>, outputs: &[Output]) {
        let mut state = self.state.lock();
        while state.end.is_none() {
            thread::panic_point("vadlitetrigger");
            let Some(element) = element.upgrade() else {
                return;
            };
            let settings = element.imp().live_settings();
            let now = self.now();
            match state.schedule.next(now, &settings) {
                Action::Wait(until) => {
                    // Whoever lets go of the element ends it: that is not to be this thread.
                    drop(element);
                    // What the end of the stream waits for may be over with nothing left to be done.
                    self.changed.notify_all();
                    self.wait(&mut state, until);
                }
                action => {
                    state.busy = true;
                    // Outputs and bus handlers run without the lock.
                    MutexGuard::unlocked(&mut state, || {
                        self.carry_out(&element, outputs, action, now, &settings);
                    });
                    state.busy = false;
                    self.changed.notify_all();
                }
            }
        }
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, until: Option<u64>) {
        // Clocks take differences as signed numbers; what is further away does not come.
        let until = until.filter(|until| i64::try_from(*until).is_ok());
        match until.map(gst::ClockTime::from_nseconds) {
            None => self.changed.wait(state),
            Some(until) => {
                let wait = self.clock.new_single_shot_id(until);
                state.wait = Some(wait.clone());
                // How it ends does not matter: the schedule is asked what to do by then.
                let _ = MutexGuard::unlocked(state, || wait.wait());
                state.wait = None;
            }
        }
    }
}

impl Gate {
    fn carry_out(
        &self,
        element: &VadLiteTrigger,
        outputs: &[Output],
        action: Action,
        now: u64,
        settings: &LiveSettings,
    ) {
        match action {
            Action::Fire(part) => self.fire(element, outputs, part, now, settings),
            Action::Pass(part) => gst::debug!(
                CAT,
                obj = element,
                "passes at {}, decision={}: {part}",
                time::display(now),
                nick(settings.decision)
            ),
            Action::Alarm => {
                element.imp().count_silence();
                gst::element_warning!(
                    element,
                    gst::StreamError::Failed,
                    (
                        "no inspected frame for {} ms; {}",
                        settings.watchdog / 1_000_000,
                        settings.fail_safe.consequence()
                    )
                );
            }
            Action::Hold(held) => self.hold(element, outputs, held, now),
            Action::Wait(_) => {}
        }
    }

    /// Fires for a part that is at the gate.
    fn fire(
        &self,
        element: &VadLiteTrigger,
        outputs: &[Output],
        part: Part,
        now: u64,
        settings: &LiveSettings,
    ) {
        let after = Duration::from_nanos(now.saturating_sub(part.due));
        let due = self
            .running(element, now)
            .saturating_sub(after.as_nanos() as u64);
        let pulse = Pulse {
            part,
            due,
            fired: Instant::now(),
            // All that nobody has seen is rejected.
            width: Duration::from_nanos(settings.pulse.max(part.unseen_for)),
            late: if part.late { after } else { Duration::ZERO },
        };
        let given_up = outputs.iter().filter(|output| output.push(pulse).is_some());
        let dropped = given_up.count() as u64;
        element.imp().count_pulse(&part, after, dropped);
        gst::debug!(
            CAT,
            obj = element,
            "fired at {}, {after:?} after its time, decision={}: {part}; {dropped} dropped",
            time::display(now),
            nick(settings.decision)
        );
        let message = PulseFired {
            part: part.number,
            id: part.id,
            frame: part.worst_frame,
            score: part.score,
            threshold: part.threshold,
            reason: pulse.reason(),
            due,
            fired: due + after.as_nanos() as u64,
            pulse: pulse.width.as_nanos() as u64,
            late: part.late,
            dropped,
        };
        message.post(element);
    }

    /// Holds the gate, or lets it go.
    fn hold(&self, element: &VadLiteTrigger, outputs: &[Output], held: bool, now: u64) {
        for output in outputs {
            output.hold(held);
        }
        element.imp().count_hold(held, now);
        let what = if held { "held" } else { "let go" };
        gst::info!(
            CAT,
            obj = element,
            "the gate is {what} at {}",
            time::display(now)
        );
        let message = GateHeld {
            held,
            time: self.running(element, now),
        };
        message.post(element);
    }

    /// The running time at `now` in nanoseconds, or what the gate's clock says where no other clock runs.
    fn running(&self, element: &VadLiteTrigger, now: u64) -> u64 {
        let running = element.current_running_time();
        let since = self.now().saturating_sub(now);
        running.map_or(now, |running| running.nseconds().saturating_sub(since))
    }
}

/// The value of an enumeration by its name as a property.
fn nick<E: ToValue + StaticType>(value: E) -> String {
    let value = value.to_value();
    glib::EnumValue::from_value(&value).map_or_else(String::new, |(_, value)| value.nick().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::panics;

    /// What [`Gate::wake`] rests on, and GStreamer's documentation does not say in so many words.
    #[test]
    fn what_is_given_up_before_it_is_waited_for_is_not_waited_for() {
        gst::init().unwrap();
        for clock in [
            gst::SystemClock::obtain(),
            gst_check::TestClock::new().upcast(),
        ] {
            let id = clock.new_single_shot_id(clock.time() + gst::ClockTime::from_seconds(600));
            id.unschedule();
            assert_eq!(id.wait().0, Err(gst::ClockError::Unscheduled));
        }
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_of_the_element_and_ends_the_stream() {
        let _alone = panics::ALONE.lock();
        gst::init().unwrap();
        crate::plugin_register_static().unwrap();
        let element = gst::ElementFactory::make("vadlitetrigger").build().unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        panics::want("vadlitetrigger");
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        let message = bus
            .timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Error])
            .expect("no error is posted");
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        assert!(error.error().matches(gst::CoreError::Thread));
        let text = error.error().message().to_owned();
        assert!(text.contains("panic at vadlitetrigger"), "{text}");
        assert!(text.contains("the gate is without decisions"), "{text}");
        // Frames do not go on as if somebody decided on them, and the end waits for nobody.
        harness.set_src_caps_str("video/x-raw,format=GRAY8,width=16,height=16,framerate=30/1");
        let pushed = harness.push(gst::Buffer::with_size(256).unwrap());
        assert_eq!(pushed, Err(gst::FlowError::Error));
        assert!(harness.push_event(gst::event::Eos::new()));
        // It is as new when it is started again.
        drop(harness);
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_src_caps_str("video/x-raw,format=GRAY8,width=16,height=16,framerate=30/1");
        harness.push(gst::Buffer::with_size(256).unwrap()).unwrap();
        assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    }
}
