//! Our builds, as processes: what a person waits for, from the command to its end.

use std::path::Path;
use std::time::SystemTime;

use images::oci::LayerRef;
use images::{Class, Error, Result};
use serde::Serialize;
use xtask::process::Process;

use crate::inputs::{Bench, Built, Material, built};
use crate::measure::{Sample, peak_memory};

/// How long ours takes.
#[derive(Clone, Debug, Serialize)]
pub struct Ours {
    /// Packages on disk, nothing made before.
    pub cold: Sample,
    /// Nothing has changed.
    pub no_op: Sample,
    /// A CA that was not there before, over an image that is made.
    pub ca: Sample,
    /// Another version of one package.
    pub upgrade: Sample,
    /// Which package that was.
    pub upgraded: String,
    /// The most memory that a cold build held, KiB.
    pub peak_kib: u64,
}

/// Measures, and returns the layers of the image, which lie in `layout`.
pub fn measure(bench: &Bench, material: &Material) -> Result<(Ours, Vec<LayerRef>)> {
    let layout = bench.output.join("layout");
    let command = bench.build(material, &layout);
    let forget = || -> Result<()> {
        bench.empty("layout")?;
        bench.empty("store/made").map(drop)
    };
    let [lock, newer] = &material.locks;
    bench.set_lock(lock)?;

    forget()?;
    let peak_kib = peak_memory(&command, &bench.output.join("memory.log"))?;
    let cold = Sample::take(bench.runs, forget, |()| expect(&command, true).map(drop))?;
    let no_op = Sample::take(bench.runs.max(10), || Ok(()), |()| expect(&command, false).map(drop))?;
    let ca = Sample::take(bench.runs, || bench.new_ca(), |ca| expect(&command.clone().arg("--ca").arg(ca), true).map(drop))?;
    let upgrade = Sample::take(
        bench.runs,
        || {
            forget()?;
            bench.set_lock(lock)?;
            let first = built(&command)?;
            let base = written(&layout, &first)?;
            bench.set_lock(newer)?;
            Ok((first, base))
        },
        |(first, base)| {
            let second = expect(&command, true)?;
            only_one_layer_is_another(&first.layers, &second.layers)?;
            match written(&layout, &second)? == base {
                true => Ok(()),
                false => Err(Error::new(Class::Check, "the base layer was written again, although none of its packages has changed")),
            }
        },
    )?;

    bench.set_lock(lock)?;
    forget()?;
    let layers = built(&command)?.layers;
    Ok((Ours { cold, no_op, ca, upgrade, upgraded: material.image.upgraded.into(), peak_kib }, layers))
}

/// A build that did what is measured, and not something else.
fn expect(command: &Process, fresh: bool) -> Result<Built> {
    let built = built(command)?;
    if built.fresh == fresh {
        return Ok(built);
    }
    let found =
        if built.fresh { "something was made although nothing had changed" } else { "nothing was made although something had changed" };
    Err(Error::new(Class::Check, found))
}

/// When the base layer was written.
fn written(layout: &Path, built: &Built) -> Result<SystemTime> {
    let base = built.layers.first().ok_or_else(|| Error::new(Class::Check, "an image without a layer"))?;
    Ok(fs_err::metadata(layout.join("blobs/sha256").join(base.digest.to_string()))?.modified()?)
}

fn only_one_layer_is_another(first: &[LayerRef], second: &[LayerRef]) -> Result<()> {
    let moved: Vec<&str> = first.iter().zip(second).filter(|(a, b)| a.digest != b.digest).map(|(a, _)| a.name.as_str()).collect();
    match moved.as_slice() {
        ["runtime"] if first.len() == second.len() => Ok(()),
        _ => Err(Error::new(Class::Check, "another package made other layers than its own")
            .detail("expected: runtime")
            .detail(format!("found:    {}", moved.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use images::Digest;

    fn layers(contents: &[&str]) -> Vec<LayerRef> {
        let names = ["base", "runtime", "image"];
        names.iter().zip(contents).map(|(name, text)| LayerRef { name: (*name).into(), digest: Digest::of(text), size: 1 }).collect()
    }

    #[test]
    fn a_package_that_moves_other_layers_than_its_own_is_noticed() {
        let first = layers(&["a", "b", "c"]);
        assert!(only_one_layer_is_another(&first, &layers(&["a", "B", "c"])).is_ok());
        for moved in [["a", "b", "c"], ["A", "B", "c"], ["a", "B", "C"], ["A", "b", "c"]] {
            assert!(only_one_layer_is_another(&first, &layers(&moved)).is_err(), "{moved:?}");
        }
    }
}
