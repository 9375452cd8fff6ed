//! Methods and presets: what is fitted, by the names of the command line, of the properties and of the model file.

use serde::{Deserialize, Serialize};

/// What a model holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    PadimLite,
    PatchcoreLite,
    Padim,
    Patchcore,
}

/// What is to be fitted.
// One list of names for all: the options' by clap, and the properties' by GLib's type system; the file's is that of `Method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[enum_type(name = "GstVadLiteMethod")]
pub enum MethodChoice {
    /// Whichever of padim-lite and patchcore-lite finds more of the defects painted on good images
    #[default]
    #[enum_value(
        name = "Whichever of padim-lite and patchcore-lite finds more of the defects painted on good images",
        nick = "auto"
    )]
    Auto,
    /// Per-position Gaussian statistics in little memory
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

impl MethodChoice {
    /// The name used on the command line and in properties.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            one => one.methods()[0].name(),
        }
    }

    /// The methods to choose from.
    pub fn methods(self) -> &'static [Method] {
        match self {
            Self::Auto => &[Method::PadimLite, Method::PatchcoreLite],
            Self::PadimLite => &[Method::PadimLite],
            Self::PatchcoreLite => &[Method::PatchcoreLite],
            Self::Padim => &[Method::Padim],
            Self::Patchcore => &[Method::Patchcore],
        }
    }
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
        let class = glib::EnumClass::with_type(MethodChoice::static_type()).unwrap();
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
        let methods = [
            Method::PadimLite,
            Method::PatchcoreLite,
            Method::Padim,
            Method::Patchcore,
        ];
        let names = [&["auto"][..], &methods.map(Method::name)].concat();
        assert_eq!(nicks, names);
        for method in methods {
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("{:?}", method.name()));
        }
        #[cfg(feature = "cli")]
        {
            use clap::ValueEnum as _;
            for (choice, name) in MethodChoice::value_variants().iter().zip(&names) {
                let value = choice.to_possible_value().unwrap();
                assert_eq!((value.get_name(), choice.name()), (*name, *name));
            }
        }
    }
}
