//! The relay: phones behind NAT get through it, and nobody gets more than that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use lab::namespace::Namespace;
use lab::phone::{Nat, Phone};
use relay::Site;
use relay::chat::{Caller, Chat};
use relay::matrix::{self, Matrix, Measured};
use relay::refusals::{self, Reached, Refusal};
use xtask::cli::images::recipe::Mattermost;
use xtask::site::secrets::Name;
use xtask::turn::{Credential, Failure, Family};

use crate::step::{Cell, Evidence, Need, Step, Table, When};
use crate::world::World;

/// Half-open allocations.
const HALF_OPEN: u32 = 1000;
/// How long an allocation may take beside them.
const SOON: Duration = Duration::from_secs(1);

/// How long Coturn may take to be healthy again.
const SECONDS: Duration = Duration::from_secs(40);

/// Packets of 100 that a phone loses on purpose.
const LOSS: u8 = 30;
/// How long Coturn's answers may take where they are lost on purpose: a question is asked twelve times by then.
const AGAIN_AND_AGAIN: Duration = Duration::from_secs(6);

const NEEDS: &[Need] = &[Need::Part("ip"), Need::Part("nft")];

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "relay::calls_is_reached_through_the_relay_from_behind_every_nat_and_in_no_other_way",
        claim: "With a credential from Mattermost, phones behind every kind of NAT get a relay candidate with the LAN address over UDP, TCP and TLS, \
                and packets of a call pass both ways, where the direct path fails",
        deadline: Duration::from_secs(60),
        needs: NEEDS,
        when: When::Shared,
        proves: gets_through,
    },
    Step {
        name: "relay::twenty_runs_of_the_matrix_lose_nothing",
        claim: "The same twenty times, one after another: no packet is lost, and no way is found or lost",
        deadline: Duration::from_secs(400),
        needs: &[Need::Full, Need::Part("ip"), Need::Part("nft")],
        when: When::Alone,
        proves: soak,
    },
    Step {
        name: "relay::coturns_own_client_agrees",
        claim: "A client that is not ours, turnutils_uclient, gets back through the relay what it sends from behind two routers, over UDP and TCP",
        deadline: Duration::from_secs(60),
        needs: &[Need::Part("ip"), Need::Part("nft"), Need::Part("turnutils_uclient")],
        // It sends nothing twice, and counts what UDP may lose, so that a busy machine would fail it.
        when: When::Apart,
        proves: own_client,
    },
    Step {
        name: "refusals::bad_credentials_and_every_other_peer_are_refused",
        claim: "The relay refuses wrong, expired and changed credentials and every peer but Calls' address, each with its exact code, and Coturn \
                understood every line of its configuration",
        deadline: Duration::from_secs(60),
        needs: NEEDS,
        when: When::Shared,
        proves: refused,
    },
    Step {
        name: "refusals::the_packet_filter_leaves_the_port_of_calls_alone",
        claim: "With the packet filter, the relay reaches neither Coturn's own port nor another allocation nor any port of the server but that of \
                Calls; without it, it does",
        deadline: Duration::from_secs(60),
        needs: NEEDS,
        when: When::Alone,
        proves: filtered,
    },
    Step {
        name: "refusals::quotas_hold_and_half_open_allocations_keep_nobody_out",
        claim: "One user, and all of them together, get the allocations of the quota and not one more; a thousand half-open allocations keep nobody out",
        deadline: Duration::from_secs(120),
        needs: NEEDS,
        when: When::Alone,
        proves: quotas,
    },
];

/// The site, and somebody with an account who may call.
pub fn caller(world: &World) -> Result<(Site, Chat, Caller)> {
    let site = Site::open(&world.folder())?;
    world
        .lab
        .server()
        .inside(|| {
            let administrator = world.chat()?;
            let caller = administrator.caller()?;
            Ok((administrator, caller))
        })?
        .map(|(administrator, caller)| (site, administrator, caller))
}

fn gets_through(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, administrator, _) = caller(world)?;
    let begin = Instant::now();
    let phones: Vec<Phone> = Nat::ALL.into_iter().map(|nat| world.phone(nat)).collect::<Result<_>>()?;
    let made = begin.elapsed();
    let matrix = matrix::measure(&site, &administrator, &phones, matches!(world.mattermost, Mattermost::Double))?;
    evidence.fact("phones and routers were made in", format!("{:.1} s", made.as_secs_f32()));
    evidence.fact("the matrix took", format!("{:.1} s", (begin.elapsed() - made).as_secs_f32()));
    for direct in &matrix.direct {
        let word = |open| if open { "answers" } else { "is not reached" };
        evidence.fact(
            format!("{}, without the relay", direct.nat),
            format!("Calls {} over UDP, {} over TCP", word(direct.udp), word(direct.tcp)),
        );
    }
    evidence.table(table(&matrix, &site));
    evidence.file("matrix.json", &serde_json::to_string_pretty(&matrix).map_err(|error| Error::new(Class::Build, error.to_string()))?)?;
    none("phones that do not get through, or get around the relay", matrix.problems(&site.target))?;
    // A measurement that finds nothing lost where much is lost would be none.
    phones[1].loses(LOSS)?;
    let patient = Site { patience: AGAIN_AND_AGAIN, ..site };
    let lossy = matrix::measure(&patient, &administrator, &phones[1..2], false)?;
    let over_udp = lossy.cells.iter().find(|cell| cell.transport == "UDP").map(|cell| cell.measured.as_ref());
    let lost = match over_udp {
        Some(Ok(measured)) => measured.lost,
        other => return Err(Error::new(Class::Check, format!("nothing was measured where packets are lost on purpose: {other:?}"))),
    };
    let expected = format!("about {LOSS} of 100");
    evidence.holds("lost where the phone loses packets on purpose", expected, format!("{lost} of 200"), (20..140).contains(&lost))
}

fn table(matrix: &Matrix, site: &Site) -> Table {
    let columns = ["phone, transport", "relay candidate", "allocation", "lost of 200", "round trip", "95 %", "throughput"];
    let rows = matrix.cells.iter().map(|cell| {
        let good = Some(cell.problem(&site.target).is_none());
        let mut texts = match &cell.measured {
            Ok(found) => vec![
                found.relayed.to_string(),
                format!("{:.1} ms", found.allocation_ms),
                found.lost.to_string(),
                format!("{:.2} ms", found.median_ms),
                format!("{:.2} ms", found.p95_ms),
                found.throughput_mbit.map_or("–".to_owned(), |mbit| format!("{mbit:.1} Mbit/s")),
            ],
            Err(why) if cell.open => vec![why.clone()],
            Err(_) => vec!["no way, as it should be".to_owned()],
        };
        texts.resize(columns.len() - 1, String::new());
        (format!("{}, {}", cell.nat, cell.transport), texts.into_iter().map(|text| Cell { text, good }).collect())
    });
    Table {
        title: "Calls through the relay, by NAT kind and transport".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// Runs of the soak.
const RUNS: usize = 20;

fn soak(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, administrator, _) = caller(world)?;
    let phones: Vec<Phone> = Nat::ALL.into_iter().map(|nat| world.phone(nat)).collect::<Result<_>>()?;
    let (mut cells, mut problems) = (BTreeMap::<_, Vec<matrix::Cell>>::new(), Vec::new());
    for run in 1..=RUNS {
        let matrix = matrix::measure(&site, &administrator, &phones, false)?;
        problems.extend(matrix.problems(&site.target).into_iter().map(|problem| format!("run {run}: {problem}")));
        for cell in matrix.cells {
            cells.entry(format!("{}, {}", cell.nat, cell.transport)).or_default().push(cell);
        }
        // Who cannot get through cannot lose anything either.
        if run == 1 && !problems.is_empty() {
            break;
        }
    }
    let columns = ["phone, transport", "runs that got through", "lost", "round trip, the least", "the most", "95 %, the most"];
    let row = |(head, cells): (String, Vec<matrix::Cell>)| {
        let found: Vec<_> = cells.iter().filter_map(|cell| cell.measured.as_ref().ok()).collect();
        let most = |of: fn(&Measured) -> f64| found.iter().map(|found| of(found)).fold(0.0, f64::max);
        let least = found.iter().map(|found| found.median_ms).fold(f64::INFINITY, f64::min);
        let (sent, lost) = (found.iter().map(|found| found.sent).sum::<u32>(), found.iter().map(|found| found.lost).sum::<u32>());
        let good = Some(cells.iter().all(|cell| cell.problem(&site.target).is_none()));
        let numbers = match found.is_empty() {
            true => vec![String::new(); 4],
            false => vec![
                format!("{lost} of {sent}"),
                format!("{least:.2} ms"),
                format!("{:.2} ms", most(|found| found.median_ms)),
                format!("{:.2} ms", most(|found| found.p95_ms)),
            ],
        };
        let texts = std::iter::once(format!("{} of {}", found.len(), cells.len())).chain(numbers);
        (head, texts.map(|text| Cell { text, good }).collect())
    };
    let (title, rows) = (format!("The matrix, {RUNS} times"), cells.into_iter().map(row).collect());
    evidence.table(Table { title, columns: columns.map(str::to_owned).to_vec(), rows });
    none("phones that do not get through each time, or lose something", problems)
}

fn none(what: &str, problems: Vec<String>) -> Result<()> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.into_iter().fold(Error::new(Class::Check, what.to_owned()).detail("expected none"), |error, line| {
            error.detail(format!("seen     {line}"))
        })),
    }
}

fn own_client(world: &World, evidence: &mut Evidence) -> Result<()> {
    if !matches!(world.mattermost, Mattermost::Double) {
        evidence.fact("not asked", "the release does not send back what is no call, which is all that this client knows");
        return Ok(());
    }
    let (site, _, caller) = caller(world)?;
    let phone = world.phone(Nat::Double)?;
    let (credential, _) = phone
        .namespace()
        .inside(|| Chat::sign_in(&site.chat, &caller.name, &caller.password).and_then(|chat| chat.turn_credential()))??;
    let asked = |options: &str| {
        let process = phone.namespace().process("turnutils_uclient").args(options.split(' ')).args(["-n", "20", "-m", "1"]);
        // It takes its credential in no other way; this one is a throw-away account's.
        let process = process.args(["-u", &credential.username, "-w", &credential.password]);
        let (turn, calls) = (site.target.turn, site.target.calls);
        let process = process.args(["-e", &calls.ip().to_string(), "-r", &calls.port().to_string(), "-p", &turn.port().to_string()]);
        let outcome = process.arg(turn.ip().to_string()).deadline(Duration::from_secs(20)).outcome();
        // The error would repeat the arguments.
        outcome.map_or_else(|_| "no end within 20 s".to_owned(), |outcome| lab::said(&outcome))
    };
    // Side by side: it waits for seconds at its beginning and at its end.
    let (over_udp, over_tcp) = std::thread::scope(|scope| {
        let over_udp = scope.spawn(|| asked("-c"));
        let over_tcp = asked("-c -t");
        (over_udp.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), over_tcp)
    });
    for (name, said) in [("UDP", over_udp), ("TCP", over_tcp)] {
        let line = said.lines().rfind(|line| line.contains("tot_recv_msgs=")).unwrap_or(&said).to_owned();
        evidence.holds(name, "tot_send_msgs=20, tot_recv_msgs=20", &line, line.contains("tot_send_msgs=20, tot_recv_msgs=20"))?;
    }
    Ok(())
}

/// The questions as a table, and an error where one was answered in another way.
fn judged(title: &str, asked: &[Refusal], evidence: &mut Evidence) -> Result<()> {
    let cell = |text: String, good| Cell { text, good };
    let row = |refusal: &Refusal| {
        let good = Some(refusal.is_good());
        (refusal.what.clone(), vec![cell(refusal.expected.to_string(), None), cell(refusal.found.clone(), good)])
    };
    let columns = ["question", "expected", "answered"].map(str::to_owned).to_vec();
    evidence.table(Table { title: title.to_owned(), columns, rows: asked.iter().map(row).collect() });
    none("questions that were not refused with their code", refusals::problems(asked))
}

fn refused(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, _, caller) = caller(world)?;
    let attacker = world.client()?;
    let networks = refusals::networks(world.lab)?;
    let secrets = world.secrets()?;
    let secret = secrets.require(Name::TurnSecret)?.expose();
    let asked = attacker.inside(|| -> Result<Vec<Refusal>> {
        let (good, _) = Chat::sign_in(&site.chat, &caller.name, &caller.password)?.turn_credential()?;
        let mut asked = refusals::of_credentials(&good, secret, |credential| site.connect(credential)?.allocate(Family::V4));
        asked.extend(refusals::of_kinds(|| site.connect_over_tcp(good.clone())));
        let failed = |failure| Error::new(Class::Check, format!("with a good credential: {failure}"));
        let mut client = site.connect(good.clone()).map_err(failed)?;
        client.allocate(Family::V4).map_err(failed)?;
        let peers = refusals::peers(site.target.calls.ip(), &networks);
        asked.extend(refusals::of_peers(&mut client, &peers, site.target.calls.port()));
        // The one that is allowed still is: the others were refused for what they are.
        client.permit(site.target.calls).map_err(failed)?;
        client.release().map_err(failed)?;
        Ok(asked)
    })??;
    evidence.fact("questions", asked.len());
    judged("What the relay refuses", &asked, evidence)?;
    let log = lab::said(&world.lab.docker("logs").arg(world.container("coturn")?).outcome()?);
    let unknown = log.lines().filter(|line| line.contains(refusals::UNKNOWN_OPTION)).count();
    evidence.same("lines of Coturn's log about an option that it does not know", 0, unknown)?;
    evidence.holds("Coturn's log is read", "denied peers", "their lines", log.contains("denied in the range"))
}

fn filtered(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, _, _) = caller(world)?;
    let attacker = world.client()?;
    let secrets = world.secrets()?;
    let secret = secrets.require(Name::TurnSecret)?.expose();
    let filter = site.filter(world.lab.server());
    // As it was put in by the site's own command, before this step touches it.
    let reached =
        || attacker.inside(|| filter.reached(site.target.turn, || site.connect(Credential::for_seconds(secret, "prober", 600))))?;
    let closed = reached();
    filter.off()?;
    let open = reached();
    filter.on()?;
    let (closed, open) = (closed?, open?);
    let words = |reached: &Reached| {
        let ports = if reached.ports.len() > 5 { format!("{} ports", reached.ports.len()) } else { format!("ports {:?}", reached.ports) };
        format!("Coturn's own port {}, another allocation {}, {ports}", reached.coturn, reached.allocation)
    };
    let effect = open.coturn && open.allocation && open.ports.len() > 60_000;
    evidence.holds("reached without the filter", "Coturn's own port, another allocation, every port", words(&open), effect)?;
    let wanted = Reached { coturn: false, allocation: false, ports: vec![site.target.calls.port()] };
    evidence.holds("reached with the filter", words(&wanted), words(&closed), closed == wanted)
}

fn quotas(world: &World, evidence: &mut Evidence) -> Result<()> {
    let (site, _, _) = caller(world)?;
    let attacker = world.client()?;
    restarted(world, &site, &attacker)?;
    let secrets = world.secrets()?;
    let secret = secrets.require(Name::TurnSecret)?.expose();
    let (first, last) = site.site.ports.relay;
    let as_user = |name: &str| site.connect(Credential::for_seconds(secret, name, 600));
    let failed = |why: String| Error::new(Class::Check, why);
    let (asked, took) = attacker.inside(|| -> Result<_> {
        let mut asked = refusals::of_quota("one user", site.site.coturn.user_quota, |_| as_user("greedy")).map_err(failed)?;
        let many = |number: u32| as_user(&format!("user{}", number / 10));
        asked.extend(refusals::of_quota("all users", u32::from(last - first) + 1, many).map_err(failed)?);
        Ok((asked, refusals::half_open(HALF_OPEN, || as_user("patient")).map_err(failed)?))
    })??;
    judged("Beyond the quotas", &asked, evidence)?;
    let seen = format!("{:.1} ms", took.as_secs_f64() * 1000.0);
    evidence.holds(&format!("an allocation beside {HALF_OPEN} half-open ones"), "within 1 s", seen, took < SOON)
}

/// Coturn without the allocations of steps before, of which it counts some for minutes.
fn restarted(world: &World, site: &Site, attacker: &Namespace) -> Result<()> {
    world.restart("coturn")?;
    let challenged = || {
        let asked = attacker.inside(|| site.connect(Credential::for_seconds("nobody", "nobody", 60))?.challenge());
        (asked.ok()? == Err(Failure::Refused(401))).then_some(())
    };
    lab::wait_for("Coturn after its restart", SECONDS, challenged, || world.site.logs());
    Ok(())
}
