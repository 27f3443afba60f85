//! The listener's parsers of requests.
#![allow(dead_code)]

#[path = "../../listener/src/http/body.rs"]
pub(crate) mod body;
#[path = "../../listener/src/http/head.rs"]
pub(crate) mod head;
