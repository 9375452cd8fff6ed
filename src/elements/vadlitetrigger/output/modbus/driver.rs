//! Keeps a coil as it is to be, over as many connections as that takes: on when the part is at the gate or the gate is held, off a pulse
//! width after the request to switch on was sent. A request goes over a connection that owes no answer, so that a PLC that answers slowly
//! neither stretches a pulse nor misses the next one.

use super::{ANSWER, Coil, Connection, ModbusError, On};
use crate::elements::vadlitetrigger::output::level::{Level, sleep_until_first};
use crate::elements::vadlitetrigger::output::link::Link;
use crate::elements::vadlitetrigger::output::queue::{Queue, has_passed};
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::backoff::{self, Backoff};
use crate::net::dialer::Dialer;
use crate::thread;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections at a time: a PLC has few, and others need some too.
const MOST: usize = 4;

/// So long a request may be without an answer before another connection is made for the next.
const PATIENCE: Duration = Duration::from_millis(10);

/// Keeps the coil until the queue is closed.
pub async fn run(coil: &Coil, queue: &Queue, link: &mut Link, level: &mut Level) {
    let dialer = Dialer::new(&coil.host, coil.port);
    let driver = Driver {
        coil,
        queue,
        link,
        level,
        dialer: Arc::new(Mutex::new(dialer)),
        idle: Vec::new(),
        tasks: JoinSet::new(),
        owed: 0,
        owed_on: 0,
        dialling: false,
        ending: false,
        answers: false,
        pulses_answered: false,
        last: None,
        requests: 0,
        sent: Vec::new(),
        rest: None,
        refused: Backoff::default(),
        refused_until: None,
        reason: String::new(),
    };
    driver.run().await;
}

struct Driver<'a> {
    coil: &'a Coil,
    queue: &'a Queue,
    link: &'a mut Link,
    level: &'a mut Level,
    dialer: Arc<Mutex<Dialer>>,
    /// Connections that owe no answer.
    idle: Vec<Connection>,
    tasks: JoinSet<Done>,
    /// Requests without an answer; these and an attempt at a connection are the tasks.
    owed: usize,
    /// Those of them that switch on.
    owed_on: usize,
    dialling: bool,
    /// The element has ended.
    ending: bool,
    /// The device has answered something since it last failed, and a request to switch on.
    answers: bool,
    pulses_answered: bool,
    /// The last request, unless the coil may be other than it says.
    last: Option<Last>,
    requests: u64,
    /// Pulses that have gone out with a request of this number and wait for its answer.
    sent: Vec<(u64, Pulse)>,
    rest: Option<Rest>,
    /// A request that the device refused is not made again before.
    refused: Backoff,
    refused_until: Option<Instant>,
    /// Why something has failed last.
    reason: String,
}

#[derive(Clone, Copy)]
struct Last {
    number: u64,
    on: On,
    sent: Instant,
    answered: bool,
    /// What the coil was before, as far as that is known, and whether it may have been on.
    before: Option<On>,
    maybe_on: bool,
}

/// No connection is tried before.
#[derive(Clone, Copy)]
struct Rest {
    until: Instant,
    /// For a pulse neither.
    strict: bool,
}

enum Done {
    Connected(Result<Connection, ModbusError>),
    Answered {
        number: u64,
        on: On,
        connection: Connection,
        result: Result<(), ModbusError>,
    },
}

impl Drop for Driver<'_> {
    /// At the end, and after a panic: what has gone out and was not answered.
    fn drop(&mut self) {
        self.sent
            .drain(..)
            .for_each(|(_, pulse)| self.link.missed(pulse));
    }
}

impl Driver<'_> {
    async fn run(mut self) {
        loop {
            let now = Instant::now();
            let end = self.level.end(self.queue, now);
            if end.is_some() && !std::mem::replace(&mut self.ending, true) {
                // There is no time to spare.
                self.rest = None;
            }
            while let Some(pulse) = self.queue.take_passed() {
                self.link.missed(pulse);
            }
            self.take_pulses(now);
            thread::panic_point("vadlite-output: modbus");
            self.ask(now);
            self.dial(now);
            if let Some(end) = end {
                // Neither is on, nor is a request on its way that would switch it on, nor a connection for a pulse.
                let waits = self.dialling && self.queue.first().is_some();
                if !self.level.maybe_on && self.owed_on == 0 && !waits {
                    return;
                }
                if now >= end {
                    if self.level.maybe_on {
                        self.link.left_on(&self.reason);
                    }
                    return;
                }
            }
            // A pulse that waits has passed a little later.
            let passes = self.queue.first().map(|pulse| {
                Instant::from_std(pulse.fired) + pulse.width + Duration::from_millis(1)
            });
            let times = [
                self.level.changes_at(),
                self.last.map(|last| last.sent + PATIENCE),
                passes,
                self.rest.map(|rest| rest.until),
                self.refused_until,
                end,
            ];
            tokio::select! {
                Some(done) = self.tasks.join_next() => match done {
                    Ok(Done::Connected(result)) => self.connected(result),
                    Ok(Done::Answered { number, on, connection, result }) => {
                        self.answered(number, on, connection, result);
                    }
                    Err(error) => if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    },
                },
                index = closed(&self.idle) => {
                    let connection = self.idle.swap_remove(index);
                    self.idle_end(&connection);
                }
                () = self.queue.changed() => {}
                () = sleep_until_first(now, times) => {}
            }
        }
    }

    fn connections(&self) -> usize {
        self.idle.len() + self.owed + usize::from(self.dialling)
    }

    fn rests(&self, now: Instant, for_pulse: bool) -> bool {
        self.rest
            .is_some_and(|rest| now < rest.until && (rest.strict || !for_pulse))
    }

    /// Lets pulses go out that wait, where there is a way for them.
    fn take_pulses(&mut self, now: Instant) {
        let is_on = self.last.filter(|last| last.on.0);
        // Where no request to switch on has been answered yet, one at a time is enough to find out.
        let can = !self.idle.is_empty()
            && !self.rests(now, true)
            && (self.owed == 0 || self.pulses_answered);
        if is_on.is_none() && !can {
            return;
        }
        let number = is_on.map_or(self.requests + 1, |last| last.number);
        while let Some(pulse) = self.queue.take() {
            self.level.open(&pulse, now);
            if is_on.is_some_and(|last| last.answered) {
                self.link.log(Some(&pulse), "stays on");
            } else {
                self.sent.push((number, pulse));
            }
            // It is worth a request of its own.
            self.refused_until = None;
        }
    }

    /// Sends what the coil is to be, where that is not what was sent last.
    fn ask(&mut self, now: Instant) {
        let on = On(self.level.wanted(self.queue, now));
        if self.last.is_some_and(|last| last.on == on)
            || self.refused_until.is_some_and(|until| now < until)
        {
            return;
        }
        let Some(mut connection) = self.idle.pop() else {
            return;
        };
        self.requests += 1;
        let (number, coil) = (self.requests, self.coil.number);
        self.last = Some(Last {
            number,
            on,
            sent: now,
            answered: false,
            before: self.last.filter(|last| last.answered).map(|last| last.on),
            maybe_on: self.level.maybe_on,
        });
        self.level.maybe_on |= on.0;
        self.owed += 1;
        self.owed_on += usize::from(on.0);
        for (_, pulse) in self.sent.iter().filter(|(its, _)| *its == number) {
            self.link.log(Some(pulse), "sent");
        }
        self.tasks.spawn(async move {
            let result = connection.write(coil, on).await;
            Done::Answered {
                number,
                on,
                connection,
                result,
            }
        });
    }

    /// Begins a connection where one is needed, or will be.
    fn dial(&mut self, now: Instant) {
        let wanted = self.level.wanted(self.queue, now);
        let differs = self.last.is_none_or(|last| last.on.0 != wanted);
        let to_switch_off = !wanted && differs && self.level.maybe_on;
        let for_pulse = self.queue.first().is_some();
        let needed = match self.connections() {
            // The first serves what is to come, too.
            0 => !self.rests(now, for_pulse || wanted || to_switch_off),
            // All others owe an answer, and what was asked is not what is wanted any more.
            count => {
                self.idle.is_empty()
                    && !self.dialling
                    && count < MOST
                    && !self.rests(now, false)
                    && self.last.is_none_or(|last| now >= last.sent + PATIENCE)
                    && (to_switch_off
                        || self.answers && differs && self.last.is_some()
                        || self.pulses_answered && for_pulse)
            }
        };
        if !needed {
            return;
        }
        self.dialling = true;
        let (coil, dialer) = (self.coil.clone(), self.dialer.clone());
        self.tasks.spawn(async move {
            // One at a time: nobody else has it.
            let mut dialer = dialer.lock().await;
            Done::Connected(coil.connect(&mut dialer).await)
        });
    }

    fn connected(&mut self, result: Result<Connection, ModbusError>) {
        self.dialling = false;
        match result {
            Ok(connection) => {
                if self.idle.is_empty() && self.owed == 0 {
                    // Whether the device keeps what was written over a connection that has ended is its own business.
                    self.last = None;
                }
                self.idle.push(connection);
                self.rest.take_if(|rest| !rest.strict);
            }
            // It lets in no more, but those who are in are served.
            Err(error) if self.connections() > 0 => {
                self.link.log(None, error);
                self.rest(Some(ANSWER), false);
            }
            Err(error) => {
                self.reason = error.to_string();
                let wait = self.link.unreachable(error);
                let wait = if self.ending { backoff::FIRST } else { wait };
                self.rest(Some(wait), true);
            }
        }
    }

    fn answered(
        &mut self,
        number: u64,
        on: On,
        mut connection: Connection,
        result: Result<(), ModbusError>,
    ) {
        self.owed -= 1;
        self.owed_on -= usize::from(on.0);
        let its = self.sent.extract_if(.., |(its, _)| *its == number);
        let pulses: Vec<Pulse> = its.map(|(_, pulse)| pulse).collect();
        let is_last = self.last.is_some_and(|last| last.number == number);
        match result {
            Ok(()) => {
                connection.answered.get_or_insert_with(Instant::now);
                self.idle.push(connection);
                self.answers = true;
                self.refused.reset();
                match on.0 {
                    true => {
                        self.pulses_answered = true;
                        self.link.served();
                    }
                    false => self.link.answered(),
                }
                for pulse in &pulses {
                    self.link.log(Some(pulse), on);
                }
                if is_last {
                    self.last.iter_mut().for_each(|last| last.answered = true);
                    self.level.maybe_on = on.0;
                    if !on.0 {
                        self.link.log(None, on);
                    }
                }
            }
            Err(error @ ModbusError::Refused(_)) => {
                self.idle.push(connection);
                self.reason = error.to_string();
                self.link.failed(error);
                self.pulses_answered &= !on.0;
                pulses.into_iter().for_each(|pulse| self.link.missed(pulse));
                if let Some(last) = self.last.take_if(|last| last.number == number) {
                    // It is as it was.
                    self.last = last.before.map(|on| Last {
                        on,
                        answered: true,
                        ..last
                    });
                    if on.0 {
                        self.level.maybe_on = last.maybe_on;
                        self.level.forget_pulses();
                    }
                    let wait = self.refused.next_wait();
                    self.refused_until = Some(Instant::now() + wait);
                }
                return;
            }
            Err(error) => {
                let life = connection.life();
                connection.abort();
                self.reason = error.to_string();
                self.answers = false;
                self.pulses_answered &= !on.0;
                if is_last {
                    self.last = None;
                    if on.0 {
                        self.level.forget_pulses();
                    }
                }
                // Those that are in time for it go out again.
                for pulse in pulses.into_iter().rev() {
                    match is_last && !has_passed(&pulse) {
                        true => self.queue.put_back(pulse),
                        false => self.link.missed(pulse),
                    }
                }
                let wait = self.link.broke(error, life, on.0);
                self.rest(wait, true);
            }
        }
        // An earlier request that ends after a later one was sent: nobody knows which of them came last.
        if !is_last && self.last.is_some_and(|last| last.on != on) {
            self.last = None;
            self.level.maybe_on |= on.0;
        }
    }

    fn idle_end(&mut self, connection: &Connection) {
        if self.connections() > 0 {
            self.link.log(None, ModbusError::Closed);
            return;
        }
        self.last = None;
        self.reason = ModbusError::Closed.to_string();
        let (wait, strict) = match connection.life() {
            Some(life) => self.link.closed_idle(life),
            // It has closed what it never answered anything on.
            None => (self.link.broke(ModbusError::Closed, None, false), true),
        };
        self.rest(wait, strict);
    }

    /// No connection for so long; near the end there is no time to spare.
    fn rest(&mut self, wait: Option<Duration>, strict: bool) {
        let wait = match self.ending {
            true => Some(wait.unwrap_or_default().min(ANSWER)),
            false => wait,
        };
        self.rest = wait.map(|wait| Rest {
            until: Instant::now() + wait,
            strict,
        });
    }
}

/// Waits until the device closes one of these connections, or says what nobody has asked for.
async fn closed(idle: &[Connection]) -> usize {
    poll_fn(|context| {
        let ended = idle.iter().position(|connection| {
            let mut byte = [0];
            let peek = connection
                .watched
                .poll_peek(context, &mut ReadBuf::new(&mut byte));
            peek.is_ready()
        });
        ended.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
