//! HTTP Strict Transport Security (RFC 6797): tells browsers to connect to this host only by HTTPS, and not to ignore an invalid certificate.

use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the field `Strict-Transport-Security`.
#[derive(Debug)]
pub(crate) struct Hsts {
    /// The setting `security.hsts-days`; 0 means no field.
    days: u16,
    /// Whether the certificate is self-signed. Then there is no field: browsers would no longer let the user accept such a certificate.
    is_self_signed: AtomicBool,
}

impl Hsts {
    /// Creates the state of a listener whose certificate is self-signed.
    pub(crate) fn new(days: u16) -> Self {
        Self { days, is_self_signed: AtomicBool::new(true) }
    }

    /// Sets whether the certificate of new connections is self-signed.
    pub(crate) fn set_self_signed(&self, is_self_signed: bool) {
        self.is_self_signed.store(is_self_signed, Ordering::Relaxed);
    }

    /// Returns the value of the field, or `None` if responses have no such field.
    pub(crate) fn field(&self) -> Option<String> {
        let is_sent = self.days > 0 && !self.is_self_signed.load(Ordering::Relaxed);
        is_sent.then(|| format!("max-age={}", u64::from(self.days) * 24 * 3600))
    }
}
