//! Where the backbone runs: ONNX Runtime's execution providers. What was asked for and is not there is an error, never a silent fallback.

use super::error::{Error, Result};
use super::runtime;
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::SessionBuilder;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum Device {
    /// ONNX Runtime's own kernels
    #[default]
    Cpu,
    /// NVIDIA's GPU by cuDNN
    Cuda,
    /// NVIDIA's GPU by TensorRT; the engine is built once and kept
    Tensorrt,
    /// XNNPACK's kernels for ARM and x86
    Xnnpack,
}

impl Device {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Xnnpack => "xnnpack",
        }
    }

    /// Whether the processor does the work, so that more sessions than one make use of it.
    pub fn is_processor(self) -> bool {
        matches!(self, Self::Cpu | Self::Xnnpack)
    }

    /// Adds the device to a session of the graph with the hash `graph`.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the library lacks the device, or the device refuses (no GPU, no driver).
    pub fn add_to(
        self,
        builder: SessionBuilder,
        graph: &str,
        threads: usize,
    ) -> Result<SessionBuilder> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let (there, providers) = match self {
            Self::Cpu => return Ok(builder),
            Self::Cuda => (ep::CUDA::is_available(), vec![cuda()]),
            // What TensorRT does not take, CUDA does.
            Self::Tensorrt => (ep::TensorRT::is_available(), vec![tensorrt(graph), cuda()]),
            Self::Xnnpack => {
                let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
                let xnnpack = ep::XNNPACK::default().with_intra_op_num_threads(threads);
                (ep::XNNPACK::is_available(), vec![xnnpack.build()])
            }
        };
        if !there.unwrap_or(false) {
            let library = runtime::library_path().unwrap_or_default();
            return Err(Error::Runtime(format!(
                "the device {} was asked for, and {} is built without it; {}",
                self.name(),
                library.display(),
                match self {
                    Self::Cuda | Self::Tensorrt =>
                        "take the library of the PyPI package onnxruntime-gpu (on a Jetson: NVIDIA's), or device=cpu",
                    Self::Cpu | Self::Xnnpack =>
                        "take a library that was built with --use_xnnpack, or device=cpu",
                }
            )));
        }
        let providers: Vec<_> = providers
            .into_iter()
            .map(|provider| provider.error_on_failure())
            .collect();
        let refused = |error: &dyn std::fmt::Display| {
            Error::Runtime(format!(
                "the device {} cannot be used: {error}",
                self.name()
            ))
        };
        let builder = builder
            .with_execution_providers(providers)
            .map_err(|error| refused(&error))?;
        if self.is_processor() {
            return Ok(builder);
        }
        builder
            .with_disable_cpu_fallback()
            .map_err(|error| refused(&error))
    }
}

fn cuda() -> ep::ExecutionProviderDispatch {
    // In full precision: a model fitted on a processor has to score the same here.
    ep::CUDA::default().with_tf32(false).build()
}

/// With the engine kept between runs, where there is a place for it.
fn tensorrt(graph: &str) -> ep::ExecutionProviderDispatch {
    let mut provider = ep::TensorRT::default();
    if let Some(folder) = cache_dir().filter(|folder| std::fs::create_dir_all(folder).is_ok()) {
        let folder = folder.to_string_lossy().into_owned();
        provider = provider
            .with_engine_cache(true)
            .with_engine_cache_path(&folder)
            .with_engine_cache_prefix(graph)
            .with_timing_cache(true)
            .with_timing_cache_path(&folder);
    }
    provider.build()
}

/// The user's folder for what can be made again.
fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("vadlite"))
}
