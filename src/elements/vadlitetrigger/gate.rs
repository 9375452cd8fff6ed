//! The thread that does what the schedule asks for, at its time on the pipeline's clock.

use super::observation::Observation;
use super::output::Output;
use super::parts::{Association, Part};
use super::pulse::Pulse;
use super::schedule::{Action, Schedule};
use super::settings::LiveSettings;
use super::{CAT, VadLiteTrigger};
use crate::elements::messages::{BusMessage, PulseFired};
use crate::elements::time;
use crate::thread::{self, Owned};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the streaming thread and the firing thread share.
#[derive(Default)]
pub struct Gate {
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
    ) -> std::io::Result<(Arc<Self>, Owned)> {
        let gate = Arc::new(Self::default());
        let (its, element) = (gate.clone(), element.downgrade());
        let (told, weak) = (gate.clone(), element.clone());
        let thread = Owned::spawn(
            "vadlitetrigger",
            move || its.run(&element, &outputs),
            move |panic| {
                told.end(End::Panicked);
                if let Some(element) = weak.upgrade() {
                    gst::element_error!(
                        element,
                        gst::CoreError::Thread,
                        ("the thread that fires pulses has failed ({panic}); the gate is without decisions until the pipeline is started anew")
                    );
                }
            },
        )?;
        Ok((gate, thread))
    }

    /// Takes in what a frame shows that arrives at `now`.
    ///
    /// # Errors
    /// The thread has failed, which has been posted: frames that nobody decides on do not pass as if somebody did.
    pub fn frame(
        &self,
        observation: Observation,
        settings: &LiveSettings,
        now: Option<u64>,
    ) -> Result<Association, gst::FlowError> {
        let mut state = self.state.lock();
        if state.end == Some(End::Panicked) {
            return Err(gst::FlowError::Error);
        }
        let association = state.schedule.frame(observation, settings, now);
        // Anything else only puts off what the thread waits for.
        if matches!(association, Association::New(_)) {
            self.wake(&state);
        }
        Ok(association)
    }

    /// Time goes on, or stands still.
    pub fn set_playing(&self, playing: bool) {
        let mut state = self.state.lock();
        state.schedule.set_playing(playing);
        self.wake(&state);
    }

    /// Forgets the parts on their way.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.schedule.clear();
        self.wake(&state);
    }

    /// The settings have changed.
    pub fn settings_changed(&self) {
        self.wake(&self.state.lock());
    }

    /// Waits until all parts on their way have been at the gate, as long as time goes on.
    pub fn drain(&self) {
        let mut state = self.state.lock();
        while state.end.is_none() && (state.busy || state.schedule.has_parts_to_come()) {
            self.changed.wait(&mut state);
        }
    }

    /// Ends the thread, and whoever waits in [`Gate::drain`].
    pub fn stop(&self) {
        self.end(End::Stopped);
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        state.end = Some(end);
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
            let now = element.current_running_time().map(gst::ClockTime::nseconds);
            // Without a clock nothing is due.
            let action = now.map(|now| (now, state.schedule.next(now, &settings)));
            match action {
                None => {
                    drop(element);
                    self.changed.wait(&mut state);
                }
                Some((_, Action::Wait(until))) => {
                    let wait = until.and_then(|until| clock_id(&element, until));
                    // Whoever lets go of the element ends it: that is not to be this thread.
                    drop(element);
                    self.wait(&mut state, wait);
                }
                Some((now, action)) => {
                    state.busy = true;
                    // Outputs and bus handlers run without the lock.
                    MutexGuard::unlocked(&mut state, || {
                        carry_out(&element, outputs, action, now, &settings);
                    });
                    state.busy = false;
                    self.changed.notify_all();
                }
            }
        }
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, wait: Option<gst::SingleShotClockId>) {
        match wait {
            None => self.changed.wait(state),
            Some(wait) => {
                state.wait = Some(wait.clone());
                // How it ends does not matter: the schedule is asked what to do by then.
                let _ = MutexGuard::unlocked(state, || wait.wait());
                state.wait = None;
            }
        }
    }
}

/// That running time on the element's clock; `None` where there is no clock, or it is too far away to come.
fn clock_id(element: &VadLiteTrigger, until: u64) -> Option<gst::SingleShotClockId> {
    let base = element.base_time()?.nseconds();
    // Clocks take differences as signed numbers.
    let time = base
        .checked_add(until)
        .filter(|time| i64::try_from(*time).is_ok())?;
    let clock = element.clock()?;
    Some(clock.new_single_shot_id(gst::ClockTime::from_nseconds(time)))
}

fn carry_out(
    element: &VadLiteTrigger,
    outputs: &[Output],
    action: Action,
    now: u64,
    settings: &LiveSettings,
) {
    match action {
        Action::Fire(part) => fire(element, outputs, part, now, settings),
        Action::Pass(part) => gst::debug!(
            CAT,
            obj = element,
            "passes at {}, decision={}: {part}",
            time::display(now),
            nick(settings.decision)
        ),
        Action::Alarm { first, part } => {
            gst::debug!(
                CAT,
                obj = element,
                "watchdog at {}: no inspected frame for {}, fail-safe={}: {part}",
                time::display(now),
                time::display(settings.watchdog),
                nick(settings.fail_safe)
            );
            if first {
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
        }
        Action::Wait(_) => {}
    }
}

/// The value of an enumeration by its name as a property.
fn nick<E: ToValue + StaticType>(value: E) -> String {
    let value = value.to_value();
    glib::EnumValue::from_value(&value).map_or_else(String::new, |(_, value)| value.nick().into())
}

/// Fires for a part that is at the gate.
fn fire(
    element: &VadLiteTrigger,
    outputs: &[Output],
    part: Part,
    now: u64,
    settings: &LiveSettings,
) {
    let after = Duration::from_nanos(now.saturating_sub(part.due));
    let pulse = Pulse {
        part,
        fired: Instant::now(),
        width: Duration::from_nanos(settings.pulse),
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
    let fired = PulseFired {
        part: part.number,
        frame: part.worst_frame,
        score: part.score,
        threshold: part.threshold,
        reason: pulse.reason(),
        due: part.due,
        fired: now,
        late: part.late,
        dropped,
    };
    fired.post(element);
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
