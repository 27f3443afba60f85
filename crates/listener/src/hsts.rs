//! HTTP Strict Transport Security (RFC 6797): tells browsers to connect to this host only by HTTPS and to accept no invalid certificate.

/// Makes the field `Strict-Transport-Security`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hsts {
    /// The setting `security.hsts-days`; 0 means no field.
    days: u16,
}

impl Hsts {
    pub(crate) fn new(days: u16) -> Self {
        Self { days }
    }

    /// Returns the value of the field, or `None` if responses have no such field. If the certificate is self-signed, responses have no such field:
    /// with it, browsers would no longer let the user accept the certificate.
    pub(crate) fn field(self, is_self_signed: bool) -> Option<String> {
        let is_sent = self.days > 0 && !is_self_signed;
        is_sent.then(|| format!("max-age={}", u64::from(self.days) * 24 * 3600))
    }
}
