//! Opens models beside the running one: when the property `model` is set, and when the file changes.

use super::VadLite;
use super::inspection::Inspection;
use super::settings::{Reload, Settings};
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often a file is looked at. It is loaded once it was the same twice, so that one being written in place is not read half.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The way to the thread that opens models, and back.
pub struct Loader {
    /// Settings whose model is to be opened. Dropped, the thread ends.
    pub wanted: Sender<Settings>,
    /// Models that are ready to take over.
    pub ready: Receiver<Box<Inspection>>,
    /// For others that make models.
    pub made: Sender<Box<Inspection>>,
}

impl Loader {
    /// Starts the thread for `element`, which runs with `settings`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(element: &VadLite, settings: &Settings) -> std::io::Result<Self> {
        let (wanted, commands) = mpsc::channel();
        let (made, ready) = mpsc::channel();
        let thread = Thread {
            element: element.downgrade(),
            settings: settings.clone(),
            made: made.clone(),
        };
        std::thread::Builder::new()
            .name("vadlite-loader".into())
            .spawn(move || thread.run(&commands))?;
        Ok(Self {
            wanted,
            ready,
            made,
        })
    }
}

struct Thread {
    element: glib::WeakRef<VadLite>,
    settings: Settings,
    made: Sender<Box<Inspection>>,
}

impl Thread {
    fn run(mut self, commands: &Receiver<Settings>) {
        let mut loaded = self.settings.model.as_deref().and_then(Identity::of);
        let mut last = loaded;
        loop {
            let command = match self.settings.reload {
                Reload::Auto => commands.recv_timeout(LOOK_EVERY),
                Reload::None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match command {
                Ok(settings) => {
                    self.settings = settings;
                    loaded = self.settings.model.as_deref().and_then(Identity::of);
                    last = loaded;
                    self.load();
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.settings.model.as_deref().and_then(Identity::of);
                    // A file that is gone is about to be replaced, or its model goes on without it.
                    if now.is_some() && now != loaded && now == last {
                        loaded = now;
                        self.load();
                    }
                    last = now;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Opens the model and offers it, or says why the old one stays.
    fn load(&self) {
        let inspection = Inspection::new(&self.settings);
        let Some(element) = self.element.upgrade() else {
            return;
        };
        match inspection {
            // Refused where the element has stopped meanwhile.
            Ok(inspection) => drop(self.made.send(Box::new(inspection))),
            Err(reason) => {
                element.imp().count_refused_reload();
                gst::element_warning!(
                    element,
                    gst::ResourceError::OpenRead,
                    ("{reason}; the model in use stays")
                );
            }
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
