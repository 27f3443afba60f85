//! As much of HTTP/1.1 (RFC 9110, RFC 9112) as one participant's server needs, with a maximum for everything.

pub mod body;
pub mod head;
pub mod response;

pub use body::Body;
pub use head::Head;
pub use response::Response;
