//! The configuration profile that iPhones, iPads and Macs install (Apple's "Configuration Profile Reference").

use images::{Class, Digest, Error, Result};
use plist::{Dictionary, Value};

use super::Facts;

/// The profile's XML: one payload, the root. The same CA gives the same profile, so that installing it again replaces it.
pub fn render(facts: &Facts) -> Result<Vec<u8>> {
    let identifier: Vec<&str> = facts.name.split('.').rev().collect();
    let identifier = format!("{}.chatops.ca", identifier.join("."));
    let title = facts.ca.common_name.clone().unwrap_or_else(|| facts.name.clone());
    let mut root = payload("com.apple.security.root", &format!("{identifier}.root"), &title, facts);
    root.insert("PayloadContent".to_owned(), Value::Data(facts.ca.der.clone()));
    root.insert("PayloadCertificateFileName".to_owned(), "ca.crt".into());
    let mut profile = payload("Configuration", &identifier, &title, facts);
    profile.insert("PayloadDescription".to_owned(), format!("Lets this device trust the chat server {}.", facts.name).into());
    profile.insert("PayloadRemovalDisallowed".to_owned(), false.into());
    profile.insert("PayloadContent".to_owned(), Value::Array(vec![root.into()]));
    let mut xml = Vec::new();
    Value::from(profile)
        .to_writer_xml(&mut xml)
        .map_err(|error| Error::new(Class::Build, format!("no configuration profile could be made: {error}")))?;
    Ok(xml)
}

fn payload(kind: &str, identifier: &str, title: &str, facts: &Facts) -> Dictionary {
    let mut payload = Dictionary::new();
    for (key, value) in
        [("PayloadType", kind), ("PayloadIdentifier", identifier), ("PayloadDisplayName", title), ("PayloadOrganization", &facts.name)]
    {
        payload.insert(key.to_owned(), value.into());
    }
    payload.insert("PayloadUUID".to_owned(), uuid(&format!("{identifier} {}", facts.ca.fingerprint())).into());
    payload.insert("PayloadVersion".to_owned(), 1.into());
    payload
}

/// A UUID of version 8 (RFC 9562): the first bytes of a digest.
fn uuid(of: &str) -> String {
    let digits = Digest::of(of).to_string();
    format!("{}-{}-8{}-a{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..32]).to_uppercase()
}
