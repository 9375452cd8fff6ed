//! What the elements speak to over a network: how it is addressed, how to reach it, and how long to wait before trying again.
//! Knows no element: what a connection is for is theirs.

pub mod address;
#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
pub mod backoff;
#[cfg(feature = "mqtt")]
pub mod broker;
#[cfg(any(feature = "mqtt", feature = "modbus"))]
pub mod dialer;
