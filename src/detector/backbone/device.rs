//! Where the backbone runs: ONNX Runtime's execution providers. What was asked for and is not there is an error, never a silent fallback.

use super::runtime;
use crate::detector::error::RuntimeError;
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::SessionBuilder;
use std::num::NonZeroUsize;

/// Where the backbone runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, glib::Enum)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[enum_type(name = "GstVadLiteDevice")]
pub enum Device {
    /// ONNX Runtime's own kernels
    #[default]
    #[enum_value(name = "CPU: ONNX Runtime's own kernels", nick = "cpu")]
    Cpu,
    /// NVIDIA's GPU by cuDNN
    #[enum_value(name = "CUDA: NVIDIA's GPU by cuDNN", nick = "cuda")]
    Cuda,
    /// NVIDIA's GPU by TensorRT; the engine is built once and kept
    #[enum_value(
        name = "TensorRT: NVIDIA's GPU by an engine that is built once and kept",
        nick = "tensorrt"
    )]
    Tensorrt,
    /// XNNPACK's kernels for ARM and x86
    #[enum_value(name = "XNNPACK: XNNPACK's kernels for the CPU", nick = "xnnpack")]
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
    /// The library lacks the device, or the device refuses (no GPU, no driver).
    pub fn add_to(
        self,
        builder: SessionBuilder,
        graph: &str,
        threads: usize,
    ) -> Result<SessionBuilder, RuntimeError> {
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
            return Err(RuntimeError::DeviceMissing {
                device: self.name(),
                library: runtime::library_path().unwrap_or_default(),
            });
        }
        let providers: Vec<_> = providers
            .into_iter()
            .map(|provider| provider.error_on_failure())
            .collect();
        let refuses = |source: ort::Error| RuntimeError::DeviceRefuses {
            device: self.name(),
            source,
        };
        let builder = builder
            .with_execution_providers(providers)
            .map_err(|error| refuses(error.into()))?;
        if self.is_processor() {
            return Ok(builder);
        }
        builder
            .with_disable_cpu_fallback()
            .map_err(|error| refuses(error.into()))
    }
}

fn cuda() -> ep::ExecutionProviderDispatch {
    // In full precision: a model fitted on a processor has to score the same here.
    ep::CUDA::default().with_tf32(false).build()
}

/// With the engine kept between runs, where there is a place for it.
fn tensorrt(graph: &str) -> ep::ExecutionProviderDispatch {
    let mut provider = ep::TensorRT::default();
    let folder = glib::user_cache_dir().join("vadlite");
    if std::fs::create_dir_all(&folder).is_ok() {
        let folder = folder.to_string_lossy();
        provider = provider
            .with_engine_cache(true)
            .with_engine_cache_path(&folder)
            .with_engine_cache_prefix(graph)
            .with_timing_cache(true)
            .with_timing_cache_path(&folder);
    }
    provider.build()
}
