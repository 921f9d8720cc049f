//! When the gateway's own certificate ends.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Until when the first certificate of a PEM file is valid, in seconds since 1970.
pub fn end(cert: &Path) -> Option<u64> {
    not_after(&CertificateDer::from_pem_file(cert).ok()?)
}

/// `tbsCertificate.validity.notAfter` (RFC 5280, 4.1): no more of a certificate is read than leads there.
fn not_after(certificate: &[u8]) -> Option<u64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let inside = |(tag, value, _)| (tag == SEQUENCE).then_some(value);
    let certificate = inside(element(certificate)?)?;
    let mut rest = inside(element(certificate)?)?;
    // A version of 1 is not written. Then serial number, signature's algorithm, issuer.
    let skipped = if rest.first() == Some(&VERSION) { 4 } else { 3 };
    for _ in 0..skipped {
        rest = element(rest)?.2;
    }
    let validity = inside(element(rest)?)?;
    let (tag, time, _) = element(element(validity)?.2)?;
    time_of(tag, std::str::from_utf8(time).ok()?)
}

/// Tag, value, and what follows, of a DER element (X.690, 8.1). Tags of one byte; nothing in a certificate's head has longer ones.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// `UTCTime`, whose years go from 1950 to 2049, or `GeneralizedTime`; both with seconds and in UTC (RFC 5280, 4.1.2.5).
fn time_of(tag: u8, text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = digits.split_at_checked(match tag {
        0x17 => 2,
        0x18 => 4,
        _ => return None,
    })?;
    let year: i64 = year.parse().ok()?;
    let year = match tag {
        0x17 if year < 50 => 2000 + year,
        0x17 => 1900 + year,
        _ => year,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (number(0)?, number(2)?, number(4)?, number(6)?, number(8)?);
    u64::try_from(since_1970(year, month, day) + hour * 3600 + minute * 60 + second).ok()
}

/// Seconds from 1970 to a day's beginning, in the proleptic Gregorian calendar.
pub fn since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their odd day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    (365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468) * 86_400
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        // RFC 5280: the short form through 2049, the long one after it.
        for year in [1999, 2026, 2049, 2050] {
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
            params.not_after = rcgen::date_time_ymd(year, 12, 1);
            let made = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate");
            assert_eq!(not_after(made.der()), u64::try_from(rcgen::date_time_ymd(year, 12, 1).unix_timestamp()).ok(), "{year}");
            for cut in 0..made.der().len() {
                let _ = not_after(&made.der()[..cut]);
            }
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(end(Path::new("/nowhere")), None);
    }
}
