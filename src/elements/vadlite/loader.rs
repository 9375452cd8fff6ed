//! Opens models beside the running one: when the property `model` is set, and when the file changes.

use super::error::SetupError;
use super::inspection::Inspection;
use super::settings::{Reload, Settings};
use super::wakeup::Wakeup;
use super::{CAT, VadLite};
use crate::detector::progress::Cancel;
use crate::thread::{Owned, panic_point, panic_text};
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How often a file is looked at. It is loaded once it was the same twice, so that one being written in place is not read half.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the element's stop waits for a model that is just being opened: a device may take minutes to make one ready.
const GRACE: Duration = Duration::from_millis(500);

/// Towards whoever inspects: models that are ready to take over.
#[derive(Clone)]
pub struct Offers {
    models: Sender<Box<Inspection>>,
    wakeup: Arc<Wakeup>,
}

impl Offers {
    /// Offers a model; nothing happens where the element has stopped meanwhile.
    pub fn offer(&self, inspection: Inspection) {
        let _ = self.models.send(Box::new(inspection));
        self.wake();
    }

    /// Has a streaming thread that waits for a model look again.
    pub fn wake(&self) {
        self.wakeup.notify();
    }
}

/// The way to the thread that opens models, and back.
pub struct Loader {
    wanted: Option<Sender<()>>,
    offered: Receiver<Box<Inspection>>,
    offers: Offers,
    stopped: Cancel,
    /// Until when the thread is waited for, once it is to end.
    deadline: Option<Instant>,
    thread: Option<Owned>,
}

impl Loader {
    /// Starts the thread for `element`, which starts with `settings`; `wakeup` hears of models that are ready.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        element: &VadLite,
        settings: &Settings,
        wakeup: Arc<Wakeup>,
    ) -> Result<Self, SetupError> {
        let (wanted, commands) = mpsc::channel();
        let (models, offered) = mpsc::channel();
        let offers = Offers { models, wakeup };
        let stopped = Cancel::default();
        let thread = Thread {
            element: element.downgrade(),
            reload: settings.reload,
            good: settings.model.clone(),
            asked: settings.model.clone(),
            seen: Seen::of(settings.model.as_deref()),
            offers: offers.clone(),
            stopped: stopped.clone(),
        };
        let weak = element.downgrade();
        let panicked = move |text| {
            if let Some(element) = weak.upgrade() {
                let error = SetupError::Panic(text);
                gst::element_error!(element, gst::LibraryError::Failed, ("{error}"));
            }
        };
        let thread = Owned::spawn("vadlite-loader", move || thread.run(&commands), panicked)
            .map_err(SetupError::Thread)?;
        Ok(Self {
            wanted: Some(wanted),
            offered,
            offers,
            stopped,
            deadline: None,
            thread: Some(thread),
        })
    }

    /// A word sent there has the model opened that the property names by then. The thread ends when this one and all its clones are gone.
    pub fn wanted(&self) -> Option<Sender<()>> {
        self.wanted.clone()
    }

    /// For others that make models.
    pub fn offers(&self) -> Offers {
        self.offers.clone()
    }

    /// Opens no more models, and says nothing of the one that is just being opened.
    pub fn stop(&mut self) {
        self.stopped.cancel();
        self.wanted = None;
        self.deadline.get_or_insert_with(|| Instant::now() + GRACE);
    }

    /// The newest model that is ready to take over.
    pub fn newest(&self) -> Option<Box<Inspection>> {
        self.offered.try_iter().last()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            thread.join_within(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

struct Thread {
    element: glib::WeakRef<VadLite>,
    reload: Reload,
    /// The model in use, or the one that is being learnt.
    good: Option<PathBuf>,
    /// The one that is being opened.
    asked: Option<PathBuf>,
    seen: Seen,
    offers: Offers,
    stopped: Cancel,
}

/// What has been seen of the model's file.
struct Seen {
    /// When it was opened last.
    opened: Option<Identity>,
    /// At the last look.
    last: Option<Identity>,
}

impl Seen {
    fn of(model: Option<&Path>) -> Self {
        let identity = model.and_then(Identity::of);
        Self {
            opened: identity,
            last: identity,
        }
    }
}

impl Thread {
    /// Serves until nobody can ask any more. A panic refuses one model; the thread goes on with the next.
    fn run(mut self, commands: &Receiver<()>) {
        // What has been seen of the file is noted before it is opened, so that no model is tried for ever.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve(commands))) {
            self.refuse(&SetupError::Panic(panic_text(&*panic)));
        }
    }

    fn serve(&mut self, commands: &Receiver<()>) {
        loop {
            let command = match self.reload {
                Reload::Auto => commands.recv_timeout(LOOK_EVERY),
                Reload::None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match command {
                Ok(()) => {
                    let Some(settings) = self.settings() else {
                        return;
                    };
                    self.seen = Seen::of(settings.model.as_deref());
                    self.load(&settings);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.good.as_deref().and_then(Identity::of);
                    let last = std::mem::replace(&mut self.seen.last, now);
                    // A file that is gone is about to be replaced, or its model goes on without it.
                    if now.is_some() && now != self.seen.opened && now == last {
                        self.seen.opened = now;
                        let Some(settings) = self.settings() else {
                            return;
                        };
                        let model = self.good.clone();
                        self.load(&Settings { model, ..settings });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What the properties ask for now; `None` where there is no element any more.
    fn settings(&self) -> Option<Settings> {
        Some(self.element.upgrade()?.imp().settings())
    }

    /// Opens the model and offers it, or says why the old one stays.
    fn load(&mut self, settings: &Settings) {
        self.asked.clone_from(&settings.model);
        if let Some(element) = self.element.upgrade() {
            let model = self.asked.as_deref().unwrap_or(Path::new(""));
            gst::debug!(CAT, obj = element, "opening the model {}", model.display());
        }
        panic_point("vadlite-loader: opening");
        match Inspection::new(settings) {
            Ok(inspection) => {
                self.good.clone_from(&settings.model);
                self.offers.offer(inspection);
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, error: &SetupError) {
        if self.stopped.is_cancelled() {
            return;
        }
        let other = self.asked != self.good;
        if other {
            self.seen = Seen::of(self.good.as_deref());
        }
        if let Some(element) = self.element.upgrade() {
            element.imp().count_refused_reload();
            if other {
                element.imp().keep_model(&self.asked, &self.good);
            }
            gst::element_warning!(
                element,
                gst::ResourceError::OpenRead,
                ("{error}; the model in use stays")
            );
        }
    }
}

/// What tells one file from the next at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.mtime(), file.mtime_nsec()),
        })
    }
}
