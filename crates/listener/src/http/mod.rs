//! The part of HTTP/1.1 (RFC 9110, RFC 9112) that a listener needs. Every length has a maximum.

pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod response;

pub(crate) use body::Body;
pub(crate) use head::Head;
pub(crate) use response::Response;
