use super::*;
use crate::spec::Spec;
use crate::testing::{self, Packing};

/// More than a source may be ahead of its writer.
const MUCH: usize = 24 << 20;

fn select() -> Select {
    let text = "format = 1\ntitle = \"t\"\nversion = \"program:p\"\n[config]\nuser = \"root\"\n";
    Select::new(&Spec::parse(text, "image.toml").expect("valid")).expect("usable")
}

fn packages() -> Plan {
    let items = vec![Item::text("usr/much", vec![0; MUCH], 1)];
    Plan { name: "runtime".into(), sources: vec![Source::Items { owner: "base".into(), items }] }
}

fn release(folder: &Path) -> Plan {
    let mut tar = ::tar::Builder::new(Vec::new());
    testing::append(&mut tar, "top/much", ::tar::EntryType::Regular, 0o644, 1, "", &vec![0; MUCH]);
    let bytes = testing::pack(&tar.into_inner().expect("a Vec takes all"), Packing::None);
    let blob = Blob { name: "release".into(), path: folder.join("release.tar"), sha256: Digest::of(&bytes) };
    fs_err::write(&blob.path, &bytes).expect("written");
    let (strip, destination) = ("top".into(), "opt".into());
    let source = Source::Release { blob, strip, destination, owner: 0, exclude: Vec::new(), keep: Vec::new() };
    Plan { name: "release".into(), sources: vec![source] }
}

#[test]
fn a_writer_that_panics_leaves_no_thread_waiting_for_room_on_either_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let plans = [packages(), release(folder.path())];
    let select = select();
    // The writer that fails is the packages', then the release's, then both.
    for failing in [&["packages"][..], &["release"], &["packages", "release"]] {
        let main = std::thread::current().id();
        let tick = |_| {
            let side = if std::thread::current().id() == main { "packages" } else { "release" };
            assert!(!failing.contains(&side), "a mistake in the writer");
        };
        let making = Making { select: &select, folder: &folder.path().join("blobs"), threads: 2, tick: &tick };
        let made = std::panic::AssertUnwindSafe(|| making.layers(&plans, 0, &mut Tree::default()).map(drop));
        // Without the guards, this would wait for ever.
        assert!(std::panic::catch_unwind(made).is_err(), "{failing:?}");
        let unnamed = fs_err::read_dir(folder.path().join("blobs")).expect("a folder").filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            name.to_string_lossy().parse::<Digest>().is_err()
        });
        assert_eq!(unnamed.count(), 0, "nothing without a name is left behind");
    }
}
