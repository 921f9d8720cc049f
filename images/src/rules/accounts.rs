//! `/etc/passwd`, `/etc/group` and `/etc/nsswitch.conf` (passwd(5), group(5), nsswitch.conf(5)).
//!
//! Stands in for adduser and base-passwd. There is no shadow file: nobody logs in to a container with a password.

use crate::spec::{Account, Spec};

/// Where accounts and host names are looked up: nothing but files and DNS.
pub const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n";

fn all(spec: &Spec) -> Vec<Account> {
    let fixed = |name: &str, id, home: &str| Account { name: name.into(), id, home: home.into() };
    let mut all = vec![fixed("root", 0, "/root"), fixed("nobody", 65534, "/nonexistent")];
    all.extend(spec.accounts.iter().cloned());
    all.sort_by_key(|account| account.id);
    all
}

/// The text of `/etc/passwd`, by number.
pub fn passwd(spec: &Spec) -> String {
    let line = |account: Account| format!("{0}:x:{1}:{1}:{0}:{2}:/usr/sbin/nologin\n", account.name, account.id, account.home);
    all(spec).into_iter().map(line).collect()
}

/// The text of `/etc/group`, by number. Debian calls the group of `nobody` `nogroup`.
pub fn group(spec: &Spec) -> String {
    let name = |account: &Account| if account.id == 65534 { "nogroup".to_owned() } else { account.name.clone() };
    all(spec).into_iter().map(|account| format!("{}:x:{}:\n", name(&account), account.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_stand_in_the_order_of_their_numbers() {
        let text = "format = 1\ntitle = \"t\"\nversion = \"program:p\"\n[[account]]\nname = \"turn\"\nid = 2001\nhome = \"/run\"\n[config]\nuser = \"turn\"\n";
        let spec = Spec::parse(text, "image.toml").expect("valid");
        insta::assert_snapshot!(passwd(&spec) + &group(&spec), @r"
        root:x:0:0:root:/root:/usr/sbin/nologin
        turn:x:2001:2001:turn:/run:/usr/sbin/nologin
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
        root:x:0:
        turn:x:2001:
        nogroup:x:65534:
        ");
    }
}
