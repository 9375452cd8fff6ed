//! Values of properties that are refused: what was in force stays so, and it is said.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Values that were refused before the element was started. Nobody may listen yet, so they make the start fail.
#[derive(Debug, Default)]
pub struct Refused(BTreeMap<String, String>);

impl Refused {
    /// Takes in how setting a property has ended. Returns what is to be warned of at once, as the element runs and goes on with the value
    /// that it had.
    pub fn note<E: Display>(
        &mut self,
        property: &str,
        set: Result<(), E>,
        running: bool,
    ) -> Option<String> {
        match set {
            Ok(()) => {
                self.0.remove(property);
                None
            }
            Err(reason) if running => Some(format!("{reason}; the value that it had stays")),
            Err(reason) => {
                self.0.insert(property.into(), reason.to_string());
                None
            }
        }
    }

    /// Whether the element may start.
    ///
    /// # Errors
    /// The first property by name whose last value was refused, with the reason.
    pub fn check(&self) -> Result<(), gst::ErrorMessage> {
        match self.0.values().next() {
            None => Ok(()),
            Some(reason) => Err(gst::error_msg!(gst::LibraryError::Settings, ("{reason}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_value_fails_the_start_until_another_is_set_or_is_told_at_once() {
        let mut refused = Refused::default();
        let error = "the property pulse: 80 ns is too short";
        assert_eq!(refused.note("pulse", Err(error), false), None);
        assert_eq!(refused.note::<&str>("delay", Ok(()), false), None);
        assert!(refused.check().is_err());
        assert_eq!(refused.note::<&str>("pulse", Ok(()), false), None);
        assert!(refused.check().is_ok());
        let told = refused.note("pulse", Err(error), true).unwrap();
        assert!(told.starts_with(error) && told.contains("stays"));
        assert!(refused.check().is_ok());
    }
}
