//! The kinds of keys that a certificate can have, and who accepts them.

/// A kind of key.
#[derive(Debug, Clone, Copy)]
pub struct KeyKind {
    /// The arguments of openssl-genpkey(1) that make such a key.
    pub arguments: &'static [&'static str],
    /// The name of the kind in the finding of `palabre check`, if the check reports a fault.
    pub refused_as: Option<&'static str>,
    /// Whether a client with the signature algorithms of browsers connects to a listener with such a key. `None` if the listener doesn't start.
    pub connects: Option<bool>,
    /// Whether Chromium connects to a server with such a key.
    pub chromium: bool,
}

const fn accepted(arguments: &'static [&'static str]) -> KeyKind {
    KeyKind { arguments, refused_as: None, connects: Some(true), chromium: true }
}

const fn refused(arguments: &'static [&'static str], name: &'static str, chromium: bool) -> KeyKind {
    KeyKind { arguments, refused_as: Some(name), connects: None, chromium }
}

/// Kinds of keys that listeners and browsers accept, and kinds that a listener or a browser refuses.
pub const KEY_KINDS: [KeyKind; 11] = [
    accepted(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    accepted(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    refused(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "ECDSA P-521", false),
    refused(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "ECDSA secp256k1", false),
    refused(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "RSA with 1024 bits", true),
    accepted(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    accepted(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]),
    refused(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4104"], "RSA with 4104 bits", true),
    refused(&["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], "RSA-PSS", false),
    KeyKind { connects: Some(false), ..refused(&["-algorithm", "ED25519"], "Ed25519", false) },
    refused(&["-algorithm", "ED448"], "Ed448", false),
];
