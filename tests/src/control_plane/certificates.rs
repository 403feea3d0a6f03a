//! The control plane's keys: one authority, which the server, its users and nobody else have certificates of.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::write;
use crate::LabError;

/// Signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Writes ca.crt, the server's certificate for `names` and its key (server.crt, server.key), and the keys that
    /// service accounts' tokens are signed with (accounts.key, accounts.pub).
    pub(super) fn new(directory: &Path, names: &[&str]) -> Result<Self, LabError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "lab");
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(directory, "ca.crt", &certificate.pem())?;
        let authority = Self { issuer: Issuer::new(params, key), certificate: certificate.pem() };
        authority.issue(directory, "server", "kube-apiserver", None, names)?;
        let accounts = KeyPair::generate().map_err(failed)?;
        write(directory, "accounts.key", &accounts.serialize_pem())?;
        write(directory, "accounts.pub", &accounts.public_key_pem())?;
        Ok(authority)
    }

    /// Writes `file`.crt and `file`.key for `user`, whose group is the organization, at `names`; and the authority's own
    /// certificate beside them, `file`-ca.crt.
    pub(super) fn issue(
        &self,
        directory: &Path,
        file: &str,
        user: &str,
        group: Option<&str>,
        names: &[&str],
    ) -> Result<(), LabError> {
        let key = KeyPair::generate().map_err(failed)?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        write(directory, &format!("{file}.crt"), &certificate.pem())?;
        write(directory, &format!("{file}.key"), &key.serialize_pem())?;
        write(directory, &format!("{file}-ca.crt"), &self.certificate)
    }
}

fn failed(error: rcgen::Error) -> LabError {
    LabError::io("make a certificate")(std::io::Error::other(error))
}
