use std::io::Cursor;
use std::sync::LazyLock;

use pgp::composed::{ArmorOptions, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SubkeyParamsBuilder};

use super::*;

/// Making RSA keys takes a while, so the tests share two.
pub(crate) static ALICE: LazyLock<SignedSecretKey> = LazyLock::new(|| make(KeyType::Rsa(2048), "", None));
pub(crate) static MALLORY: LazyLock<SignedSecretKey> = LazyLock::new(|| make(KeyType::Rsa(2048), "", None));

fn make(kind: KeyType, passphrase: &str, sub: Option<KeyType>) -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(kind).can_certify(true).can_sign(true).can_encrypt(EncryptionCaps::None).primary_user_id("Test".into());
    if !passphrase.is_empty() {
        params.passphrase(Some(passphrase.to_owned()));
    }
    if let Some(kind) = sub {
        let sub = SubkeyParamsBuilder::default().key_type(kind).can_sign(true).can_encrypt(EncryptionCaps::None).build();
        params.subkeys(vec![sub.expect("parameters are good")]);
    }
    let params = params.build().expect("parameters are good");
    params.generate(rand::thread_rng()).expect("a key is made")
}

pub(crate) fn public(key: &SignedSecretKey) -> Vec<u8> {
    key.to_public_key().to_bytes().expect("serializes")
}

pub(crate) fn name(key: &SignedSecretKey) -> String {
    fingerprint(&key.primary_key)
}

/// What `gpg --clearsign` makes.
pub(crate) fn clearsign(text: &str, key: &impl SigningKey) -> String {
    let signed = CleartextSignedMessage::sign(rand::thread_rng(), text, key, &Password::empty()).expect("signs");
    signed.to_armored_string(ArmorOptions::default()).expect("serializes")
}

#[test]
fn a_detached_signature_is_checked_in_both_forms_and_by_fingerprint() {
    let secret = ALICE.to_bytes().expect("serializes");
    let signature = sign_detached(&b"content"[..], &secret, b"", "key").expect("signs");
    let armored =
        DetachedSignature::from_bytes(&signature[..]).and_then(|one| one.to_armored_string(ArmorOptions::default())).expect("armors");
    let ring = Keyring::parse(&public(&ALICE), "ring").expect("a keyring");
    let alice = name(&ALICE);
    let grouped =
        alice.to_lowercase().as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned()).collect::<Vec<_>>().join(" ");
    for form in [&signature[..], armored.as_bytes()] {
        assert_eq!(ring.verify_detached(Cursor::new("content"), form, &[&grouped], "file").expect("good"), alice);
        let error = ring.verify_detached(Cursor::new("contents"), form, &[&alice], "file").expect_err("other content");
        assert_eq!(error.class(), Class::HashMismatch);
        assert!(error.to_string().contains("was changed"), "{error}");
    }
    let error = ring.verify_detached(Cursor::new("content"), &signature, &[&name(&MALLORY)], "file").expect_err("not allowed");
    assert!(error.to_string().contains(&format!("expected one by {}", name(&MALLORY))), "{error}");
    assert!(error.to_string().contains(&format!("found a signature by {alice}, which is not one of them")), "{error}");
    for garbage in [&b""[..], b"not a signature", &signature[..20]] {
        let error = ring.verify_detached(Cursor::new("content"), garbage, &[&alice], "file").expect_err("garbage");
        assert!(error.to_string().contains("found no OpenPGP signature"), "{error}");
    }
}

#[test]
fn a_key_outside_the_keyring_is_named() {
    let signature = sign_detached(&b"content"[..], &MALLORY.to_bytes().expect("serializes"), b"", "key").expect("signs");
    let ring = Keyring::parse(&public(&ALICE), "the ring").expect("a keyring");
    let error = ring.verify_detached(Cursor::new("content"), &signature, &[&name(&MALLORY)], "file").expect_err("unknown");
    assert!(error.to_string().contains(&format!("by key {}, which the ring does not hold", name(&MALLORY))), "{error}");
}

#[test]
fn a_keyring_holds_several_keys_binary_or_armored() {
    let both = [public(&ALICE), public(&MALLORY)].concat();
    let armored = [&ALICE, &MALLORY].map(|key| key.to_public_key().to_armored_string(ArmorOptions::default()).expect("armors"));
    let armored = format!("a note before\n{}\nand between\n{}", armored[0], armored[1]);
    for bytes in [&both[..], armored.as_bytes()] {
        assert_eq!(Keyring::parse(bytes, "ring").expect("a keyring").fingerprints(), [name(&ALICE), name(&MALLORY)]);
    }
    for bytes in [&b""[..], b"nothing", b"-----BEGIN PGP PUBLIC KEY BLOCK-----", &ALICE.to_bytes().expect("serializes")] {
        assert!(Keyring::parse(bytes, "ring").expect_err("no key").to_string().contains("ring holds no OpenPGP public key"));
    }
}

#[test]
fn only_the_signed_text_of_a_document_comes_out() {
    let ring = Keyring::parse(&public(&ALICE), "ring").expect("a keyring");
    let alice = name(&ALICE);
    let text = "Origin: Debian\n- dashed\nDate: now\n";
    let document = clearsign(text, &ALICE.primary_key);
    assert_eq!(ring.verify_cleartext(document.as_bytes(), &[&alice], "InRelease").expect("good"), text);
    let tampered = document.replace("Debian", "Dubian");
    let error = ring.verify_cleartext(tampered.as_bytes(), &[&alice], "InRelease").expect_err("tampered");
    assert!(error.to_string().contains("was changed"), "{error}");
    for around in [format!("Origin: Evil\n{document}"), format!("{document}\nOrigin: Evil\n")] {
        assert!(ring.verify_cleartext(around.as_bytes(), &[&alice], "InRelease").is_err(), "{around}");
    }
    let error = ring.verify_cleartext(text.as_bytes(), &[&alice], "InRelease").expect_err("unsigned");
    assert!(error.to_string().contains("InRelease is not a signed document"), "{error}");
    let other = clearsign(text, &MALLORY.primary_key);
    assert!(ring.verify_cleartext(other.as_bytes(), &[&alice], "InRelease").is_err());
}

#[test]
fn a_subkey_signs_for_its_primary_key_only_where_it_is_bound() {
    let key = make(KeyType::Ed25519Legacy, "", Some(KeyType::Ed25519Legacy));
    let document = clearsign("text", &key.secret_subkeys[0].key);
    let ring = Keyring::parse(&public(&key), "ring").expect("a keyring");
    ring.verify_cleartext(document.as_bytes(), &[&name(&key)], "InRelease").expect("bound");

    // The same subkey below somebody else's primary key.
    let mut grafted = ALICE.to_public_key();
    grafted.public_subkeys = key.to_public_key().public_subkeys;
    let ring = Keyring::parse(&grafted.to_bytes().expect("serializes"), "ring").expect("a keyring");
    let error = ring.verify_cleartext(document.as_bytes(), &[&name(&ALICE)], "InRelease").expect_err("grafted");
    assert!(error.to_string().contains("whose subkey is not bound to it for signing"), "{error}");
}

#[test]
fn a_revoked_key_signs_nothing() {
    let document = clearsign("text", &ALICE.primary_key);
    let mut config = SignatureConfig::v4(SignatureType::KeyRevocation, ALICE.primary_key.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = signature_config(&ALICE.primary_key, Timestamp::now()).expect("subpackets").hashed_subpackets;
    let revocation = config.sign_key(&ALICE.primary_key, &Password::empty(), ALICE.primary_key.public_key()).expect("revokes");
    let mut revoked = ALICE.to_public_key();
    revoked.details.revocation_signatures.push(revocation);
    let ring = Keyring::parse(&revoked.to_bytes().expect("serializes"), "ring").expect("a keyring");
    let error = ring.verify_cleartext(document.as_bytes(), &[&name(&ALICE)], "InRelease").expect_err("revoked");
    assert!(error.to_string().contains("has revoked"), "{error}");
}

#[test]
fn plugins_are_signed_with_rsa_or_not_at_all() {
    let ed25519 = make(KeyType::Ed25519Legacy, "", None).to_bytes().expect("serializes");
    let error = sign_detached(&b"x"[..], &ed25519, b"", "site.key").expect_err("not RSA");
    insta::assert_snapshot!(error, @r#"
    site.key cannot sign plugins
      expected an RSA key of at least 2048 bits: the Mattermost server knows no other kind (golang.org/x/crypto/openpgp)
      found EdDSALegacy
    hint: gpg --quick-generate-key "Plugins of this site" rsa3072 sign never
    "#);
    let error = sign_detached(&b"x"[..], &public(&ALICE), b"", "site.pub").expect_err("public");
    assert!(error.to_string().contains("site.pub holds no OpenPGP secret key"), "{error}");
}

#[test]
fn a_passphrase_opens_the_key_and_a_wrong_one_does_not() {
    let key = make(KeyType::Rsa(2048), "correct horse", None);
    let armored = key.to_armored_string(ArmorOptions::default()).expect("armors");
    let signature = sign_detached(&b"x"[..], armored.as_bytes(), b"correct horse", "key").expect("signs");
    let ring = Keyring::parse(&public(&key), "ring").expect("a keyring");
    ring.verify_detached(Cursor::new("x"), &signature, &[&name(&key)], "x").expect("good");
    let error = sign_detached(&b"x"[..], armored.as_bytes(), b"wrong", "key").expect_err("wrong passphrase");
    assert!(error.to_string().contains("--passphrase-file"), "{error}");
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

#[test]
fn base64_is_read_as_it_is_written_with_padding_or_without() {
    for length in 0..70u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(151)).collect();
        let padded = base64(&bytes);
        for text in [padded.trim_end_matches('='), &padded] {
            let signature = crate::lock::Signature { fingerprint: String::new(), base64: text.to_owned() };
            assert_eq!(signature.bytes().expect("valid"), bytes);
        }
    }
    for bad in ["A", "AAAAA", "AA-A", "AA A"] {
        let signature = crate::lock::Signature { fingerprint: String::new(), base64: bad.to_owned() };
        assert!(signature.bytes().is_err(), "{bad}");
    }
}
