//! The site's CA as Java takes it: a truststore in PKCS#12 (RFC 7292).
//!
//! What it holds is public, so nothing in it is encrypted; its password, which Java wants to have, only proves that the file is whole.
//! The crates for this format need unreleased versions of a dozen others and write no store that is not encrypted.

use hmac::{Hmac, KeyInit, Mac};
use images::Result;
use sha2::{Digest, Sha256};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

use crate::site::pki::certificate::Certificate;

/// Java's own default. It is no secret.
pub const PASSWORD: &str = "changeit";

/// Rounds of the key derivation: what the JDK writes itself.
const ROUNDS: u32 = 10_000;

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
/// Oracle's mark of a certificate that is trusted; without it Java loads the file and sees no entry.
const TRUSTED: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANY_USE: &[u64] = &[2, 5, 29, 37, 0];
const SHA_256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

/// The certificates of a PEM file as a truststore: the same bytes each time, so that a file that is right is not written again.
///
/// # Errors
/// As [`Certificate::from_pem`].
pub fn of_pem(pem: &str, file: &str) -> Result<Vec<u8>> {
    let certificates: Vec<Vec<u8>> = Certificate::from_pem(pem.as_bytes(), file)?.into_iter().map(|certificate| certificate.der).collect();
    Ok(pkcs12(&certificates))
}

fn pkcs12(certificates: &[Vec<u8>]) -> Vec<u8> {
    let bags = yasna::construct_der(|writer| {
        writer.write_sequence_of(|writer| {
            for (at, certificate) in certificates.iter().enumerate() {
                bag(writer.next(), certificate, &format!("chatops-{}", at + 1));
            }
        });
    });
    let safes = yasna::construct_der(|writer| writer.write_sequence_of(|writer| data(writer.next(), &bags)));
    // A salt makes keys of one password differ; here the password is known, and bytes that stand still are worth more.
    let salt = Sha256::digest(&safes);
    let mac = mac(&safes, &salt);
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &safes);
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        oid(writer.next(), SHA_256);
                        writer.next().write_null();
                    });
                    writer.next().write_bytes(&mac);
                });
                writer.next().write_bytes(&salt);
                writer.next().write_u32(ROUNDS);
            });
        });
    })
}

fn oid(writer: DERWriter, parts: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(parts));
}

/// `ContentInfo` with plain bytes.
fn data(writer: DERWriter, bytes: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), DATA);
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(bytes));
    });
}

/// `SafeBag` with a trusted certificate.
fn bag(writer: DERWriter, certificate: &[u8], name: &str) {
    writer.write_sequence(|writer| {
        oid(writer.next(), CERT_BAG);
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                oid(writer.next(), X509);
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            writer.next().write_sequence(|writer| {
                oid(writer.next(), FRIENDLY_NAME);
                writer.next().write_set_of(|writer| writer.next().write_bmp_string(name));
            });
            writer.next().write_sequence(|writer| {
                oid(writer.next(), TRUSTED);
                writer.next().write_set_of(|writer| oid(writer.next(), ANY_USE));
            });
        });
    });
}

fn mac(bytes: &[u8], salt: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(salt)).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// Appendix B.2 of RFC 7292, for a key of one SHA-256: the diversifier is 3, the password in UTF-16 with a zero at its end, both and the
/// salt repeated to whole blocks of 64 bytes.
fn key(salt: &[u8]) -> [u8; 32] {
    let password: Vec<u8> = PASSWORD.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let whole = |bytes: &[u8]| bytes.iter().copied().cycle().take(bytes.len().div_ceil(64) * 64).collect::<Vec<u8>>();
    let mut key: [u8; 32] = Sha256::new().chain_update([3; 64]).chain_update(whole(salt)).chain_update(whole(&password)).finalize().into();
    for _ in 1..ROUNDS {
        key = Sha256::digest(key).into();
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../../tests/tools-double/contract/ca.pem");

    #[test]
    fn the_same_ca_gives_the_same_bytes() {
        let store = of_pem(PEM, "ca.pem").unwrap();
        assert_eq!(store, of_pem(&format!("a remark\n{PEM}"), "ca.pem").unwrap());
        let der = &Certificate::from_pem(PEM.as_bytes(), "ca.pem").unwrap()[0].der;
        assert!(store.windows(der.len()).any(|window| window == der.as_slice()), "the certificate stands there as it is");
        // keytool and openssl read exactly these bytes (tests/acceptance); a change of them has to be shown to both.
        assert_eq!(images::Digest::of(&store).to_string(), "b55071a02592a143178020ca323fc4c5eaf9ab2547c90795d7d95d75b7143c88");
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        for pem in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            assert!(of_pem(pem, "their.pem").unwrap_err().to_string().starts_with("their.pem "), "{pem:?}");
        }
    }
}
