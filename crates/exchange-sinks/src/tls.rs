//! TLS as the rest of the collector has it: rustls with ring, Mozilla's authorities or those of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{SinkError, SinkErrorKind};

/// A configuration that trusts the authorities of a PEM file, or without one Mozilla's.
///
/// # Errors
/// [`SinkErrorKind::Config`] where the file cannot be read or holds none.
pub(crate) fn config(authorities: Option<&Path>) -> Result<ClientConfig, SinkError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |why: String| SinkError::new(SinkErrorKind::Config, format!("cannot read the certificates in `{}`: {why}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there are none".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| SinkError::new(SinkErrorKind::Permanent, format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
