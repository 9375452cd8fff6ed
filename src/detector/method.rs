//! Methods and presets: what is fitted, by the names of the command line, of the properties and of the model file.

use serde::{Deserialize, Serialize};

/// What is fitted.
// One list of names for all: the file's by serde, the options' by clap, and the properties' by GLib's type system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, glib::Enum)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[enum_type(name = "GstVadLiteMethod")]
pub enum Method {
    /// Per-position Gaussian statistics in little memory
    #[default]
    #[enum_value(
        name = "PaDiM-Lite: per-position Gaussian statistics in little memory, for parts that lie alike",
        nick = "padim-lite"
    )]
    PadimLite,
    /// Product-quantised memory bank of good patches
    #[enum_value(
        name = "PatchCore-Lite: a compressed memory bank, for parts and surfaces anywhere in the picture",
        nick = "patchcore-lite"
    )]
    PatchcoreLite,
    /// Per-position Gaussians with full covariances
    #[enum_value(
        name = "PaDiM: per-position Gaussians with full covariances",
        nick = "padim"
    )]
    Padim,
    /// Memory bank of good patches, exact search
    #[enum_value(name = "PatchCore: memory bank with exact search", nick = "patchcore")]
    Patchcore,
}

/// Which constants and equations a method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The best known at no more memory and time than the paper's
    #[default]
    Default,
    /// The paper's equations and constants
    Paper,
}

impl Method {
    /// The name used on the command line, in properties and in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::PadimLite => "padim-lite",
            Self::PatchcoreLite => "patchcore-lite",
            Self::Padim => "padim",
            Self::Patchcore => "patchcore",
        }
    }
}

impl Preset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Paper => "paper",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glib::prelude::*;

    /// The file, the properties and the options must not come to differ.
    #[test]
    fn every_list_has_the_same_names() {
        let class = glib::EnumClass::with_type(Method::static_type()).unwrap();
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
        let methods = [
            Method::PadimLite,
            Method::PatchcoreLite,
            Method::Padim,
            Method::Patchcore,
        ];
        assert_eq!(nicks, methods.map(Method::name));
        for method in methods {
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("{:?}", method.name()));
        }
        #[cfg(feature = "cli")]
        {
            use clap::ValueEnum as _;
            let names = Method::value_variants().iter().map(|method| {
                let value = method.to_possible_value().unwrap();
                value.get_name().to_owned()
            });
            assert!(names.eq(methods.map(Method::name)));
        }
    }
}
