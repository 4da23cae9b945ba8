use super::*;
use crate::{
    api::yaml,
    domain::policy::{MongoUri, VolumePlace},
};
use proptest::prelude::*;

fn facts(orchestrator: Orchestrator) -> Facts {
    Facts { orchestrator, defaults: Defaults::default() }
}

/// A document around a specification in flow style.
fn document(spec: &str) -> String {
    format!(
        "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: nightly}}\nspec: {spec}\n"
    )
}

fn load_one(text: &str, facts: &Facts) -> Result<Policy, Vec<Located>> {
    let mut loaded = load(text, facts).map_err(|error| vec![error])?;
    assert_eq!(loaded.len(), 1, "{text}");
    loaded.remove(0).policy
}

fn told(result: Result<Policy, Vec<Located>>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(errors) => {
            errors.iter().map(|error| format!("{}: {error}", error.line)).collect::<Vec<_>>().join("\n    ")
        }
    }
}

const GOOD: &str =
    "instance: production, destination: {remote: box, path: WT, configFrom: {file: /etc/rclone.conf}}";
const HOMES: &str = "volumes: [{name: homes, hostPath: /mnt/homes}]";

#[test]
fn the_smallest_policy_has_every_default() {
    let text = document(&format!("{{{GOOD}, {HOMES}, mongodb: {{uri: 'mongodb://a,b/?replicaSet=rs1'}}}}"));
    let policy = load_one(&text, &facts(Orchestrator::Local)).unwrap();
    assert_eq!(policy.schedule.expression(), "H H(1-4) * * *");
    assert_eq!(policy.schedule.time_zone_name(), "UTC");
    assert_eq!(policy.retention.keep_within_days, 7);
    assert_eq!(policy.guards.minimum_source_percent, 50);
    assert_eq!(policy.task.retries, 2);
    assert_eq!(policy.task.pending.as_secs(), 900);
    assert_eq!((policy.destination.transfers, policy.destination.part_size_mib), (4, 24));
    assert_eq!(policy.sources().len(), 2);
    let mongodb = policy.mongodb.unwrap();
    assert_eq!(mongodb.parallel_collections, 4);
    assert_eq!(mongodb.connection.uri, MongoUri::Plain("mongodb://a,b/?replicaSet=rs1".to_owned()));
    assert_eq!(policy.volumes[0].place, VolumePlace::HostPath("/mnt/homes".into()));
    assert!(policy.volumes[0].one_file_system && !policy.volumes[0].optional);
}

/// One row a wrong value: the specification's own part, and everything that is said about it.
#[test]
fn every_wrong_value_says_what_is_allowed() {
    let rows = [
        "instance: ''",
        "instance: -x",
        "instance: 7",
        "instance: data",
        "schedule: 0 3 30 2 *",
        "schedule: daily",
        "schedule: [1]",
        "timeZone: Chicago",
        "timeZone: true",
        "startingDeadlineSeconds: 5",
        "startingDeadlineSeconds: '600'",
        "startingDeadlineSeconds: 1.5",
        "suspend: 'yes'",
        "suspend: yes",
        "suspend: 1",
        "freshWithinSeconds: 1",
        "scheduel: x",
        "uri: mongodb://a",
        "wholly: 1",
        "Instance: x",
        "mongodb: {}",
        "mongodb: {uri: x, uriFrom: {file: /x}}",
        "mongodb: {uri: 'mongodb://u:p@a'}",
        "mongodb: {uri: mongodb://a/girder}",
        "mongodb: {uri: mongodb://u@a}",
        "mongodb: {uri: mongodb://a, passwordFrom: {file: /p}}",
        "mongodb: {uri: mongodb://a, username: u}",
        "mongodb: {uri: mongodb://u@a, username: u, passwordFrom: {file: /p}}",
        "mongodb: {uriFrom: {}}",
        "mongodb: {uriFrom: {file: uri}}",
        "mongodb: {uriFrom: {secretKeyRef: {name: m}}}",
        "mongodb: {uriFrom: /etc/uri}",
        "mongodb: {uriFrom: {secretKeyRef: {}}}",
        "mongodb: {uri: mongodb://a, password: geheim}",
        "mongodb: {uri: mongodb://a, tls: {caFrom: {file: ../ca}}}",
        "mongodb: {uri: mongodb://a, tls: {certificateFrom: {secretKeyRef: {name: c}}}}",
        "mongodb: {uri: mongodb://a, include: girder}",
        "mongodb: {uri: mongodb://a, include: ['.x', '']}",
        "mongodb: {uri: mongodb://a, exclude: [1]}",
        "mongodb: {uri: mongodb://a, oplog: auto}",
        "mongodb: {uri: mongodb://a, oplog: Off}",
        "mongodb: {uri: mongodb://a, oplog: false}",
        "mongodb: {uri: mongodb://a, member: Any}",
        "mongodb: {uri: mongodb://a, parallelCollections: 17}",
        "volumes: {homes: /x}",
        "volumes: [/x]",
        "volumes: [{hostPath: /x}]",
        "volumes: [{name: homes}]",
        "volumes: [{name: Homes, hostPath: /x}]",
        "volumes: [{name: mongodb, hostPath: /x}]",
        "volumes: [{name: a, hostPath: x}]",
        "volumes: [{name: a, hostPath: /x/../y}]",
        "volumes: [{name: a, hostPath: /x, claimName: y}]",
        "volumes: [{name: a, claimName: y}]",
        "volumes: [{name: a, volumeName: y}]",
        "volumes: [{name: a, hostPath: /x}, {name: a, hostPath: /y}]",
        "volumes: [{name: a, hostPath: /x, include: ['a[']}]",
        "volumes: [{name: a, hostPath: /x, exclude: ['!b', '{c']}]",
        "volumes: [{name: a, hostPath: /x, optional: maybe}]",
        "volumes: [{name: a, hostPath: /x, allowEmpty: 0}]",
        "volumes: [{name: a, hostPath: /x, nodeSelector: {storage: 1}}]",
        "volumes: [{name: a, hostPath: /x, nodeSelector: {storage: '1'}}]",
        "volumes: [{name: a, hostPath: /x, oneFilesystem: true}]",
        "volumes: [~]",
        "volumes: [{name: a, hostpath: /x}]",
        "destination: ~",
        "destination: box:WT",
        "destination: {remote: 'box:', configFrom: {file: /x}}",
        "destination: {remote: box, path: /WT, configFrom: {file: /x}}",
        "destination: {remote: box, path: a/data, configFrom: {file: /x}}",
        "destination: {remote: box}",
        "destination: {remote: box, configFrom: {}}",
        "destination: {remote: box, configFrom: {file: rclone.conf}}",
        "destination: {remote: box, configFrom: {file: /x, directory: /y}}",
        "destination: {remote: box, configFrom: {secretKeyRef: {name: rclone}}}",
        "destination: {remote: box, configFrom: {directory: x}}",
        "destination: {remote: box, configFrom: {file: /x}, bandwidthLimit: fast}",
        "destination: {remote: box, configFrom: {file: /x}, bandwidthLimit: 8}",
        "destination: {remote: box, configFrom: {file: /x}, transfers: 0}",
        "destination: {remote: box, configFrom: {file: /x}, partSizeMiB: 500}",
        "destination: {remote: box, configFrom: {file: /x}, partSizeMib: 5}",
        "destination: {remote: box, configFrom: {file: /x}, takeOver: now}",
        "encryption: {recipients: [age1x]}",
        "encryption: {recipients: []}",
        "retention: {keepDaily: 0}",
        "retention: {keepWithinDays: -1}",
        "retention: 30",
        "retention: {keepWithin: 3}",
        "guards: {minimumSourcePercent: 101}",
        "guards: {minimumSourceBytes: 1}",
        "verify: {schedule: '@weekly'}",
        "verify: {schedul: x}",
        "restoreFrom: {asOf: yesterday}",
        "notify: [slack]",
        "notify: slack",
        "task: {resources: {limits: {memory: 32Mi}}}",
        "task: {resources: {limits: {memory: lots}}}",
        "task: {resources: {limits: {cpu: '2', memory: 512Mi}, requests: {cpu: '1'}}}",
        "task: {timeoutSeconds: 1}",
        "task: {pendingSeconds: x}",
        "task: {retries: 11}",
        "task: {nodeSelector: {a: b}, networks: [n]}",
        "task: {securityContext: {runAsUser: 0}, priorityClassName: high}",
        "task: {tolerations: [{key: a}], serviceAccountName: s, imagePullSecrets: [{name: x}]}",
    ];
    let facts = facts(Orchestrator::Local);
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            let key = row.split(':').next().unwrap_or_default();
            let rest: Vec<_> =
                ["instance: production", HOMES, "destination: {remote: box, configFrom: {file: /x}}"]
                    .into_iter()
                    .filter(|part| !part.starts_with(&format!("{key}:")))
                    .collect();
            let told = told(load_one(&document(&format!("{{{row}, {}}}", rest.join(", "))), &facts));
            assert!(told.starts_with("4: "), "{row}: {told}");
            assert!(!told.contains("geheim") && !told.contains("u:p"), "{told}");
            format!("{row}\n    {}", told.replace("4: ", ""))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn everything_that_is_wrong_comes_at_once_with_its_line() {
    let text = "\
apiVersion: backstay.dev/v1alpha1
kind: BackupPolicy
metadata:
  name: nightly
spec:
  schedule: 61 * * * *
  mongodb:
    uri: mongodb://u:geheim@a
  volumes:
    - name: homes
      hostPath: mnt/homes
    - name: acme
      claimName: acme
  destination:
    remote: box
    configFrom: {secretKeyRef: {name: rclone}}
";
    insta::assert_snapshot!(told(load_one(text, &facts(Orchestrator::Local))));
}

#[test]
fn a_field_that_cannot_be_read_hides_no_other_error() {
    let text = document(
        "{instance: 7, scheduel: x, timeZone: Mars, mongodb: {uri: 1, include: [.x]}, volumes: [{name: a, hostPath: x}, {name: b, optional: 1}], destination: {remote: 'b:', configFrom: {file: /x}}}",
    );
    insta::assert_snapshot!(told(load_one(&text, &facts(Orchestrator::Local))));
}

#[test]
fn effective_values_give_the_same_policy() {
    let rows = [
        format!("{{{GOOD}, {HOMES}}}"),
        format!("{{{GOOD}, {HOMES}, mongodb: {{uri: 'mongodb://u@a', passwordFrom: {{file: /p}}, tls: {{caFrom: {{file: /ca}}}}, oplog: Never, include: [girder]}}}}"),
        format!("{{{GOOD}, volumes: [{{name: a, hostPath: /x/, optional: true, exclude: ['*.tmp']}}], schedule: '@weekly', timeZone: Europe/Berlin, suspend: true, freshWithinSeconds: 90000, startingDeadlineSeconds: 600, retention: {{keepDaily: 3}}, guards: {{minimumSourcePercent: 0}}, task: {{retries: 0, timeoutSeconds: 60, resources: {{limits: {{memory: 1Gi}}}}}}}}"),
        "{instance: a, mongodb: {uriFrom: {file: /u}}, destination: {remote: box, configFrom: {directory: /r}, bandwidthLimit: 8M, transfers: 2, partSizeMiB: 5, takeOver: true}}".to_owned(),
        format!("{{{GOOD}, mongodb: {{uriFrom: {{file: /u}}}}, restoreFrom: {{instance: b, mongodb: {{users: true}}}}}}"),
    ];
    for spec in rows {
        let policy = load_one(&document(&spec), &facts(Orchestrator::Local)).unwrap();
        let explicit = serde_json::to_string(&crate::plan::effective::specification(&policy)).unwrap();
        assert_eq!(
            load_one(&document(&explicit), &facts(Orchestrator::Local)).unwrap(),
            policy,
            "{explicit}"
        );
    }
}

#[test]
fn envelopes_that_are_wrong() {
    let texts = [
        "kind: BackupPolicy\nmetadata: {name: a}\nspec: {}\n",
        "apiVersion: backstay.dev/v1\nkind: Policy\nmetadata: {}\nspec: {}\n",
        "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: a}\nschedule: x\nspecs: {}\n",
        "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: Nightly_1}\nspec: {}\n",
        "apiVersion: backstay.dev/v1alpha1\nkind: Restore\nmetadata: {name: a}\nspec: {}\n",
        "- a\n",
        "hello\n",
    ];
    let table: Vec<_> = texts
        .iter()
        .map(|text| format!("{text}    {}", told(load_one(text, &facts(Orchestrator::Local)))))
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn one_wrong_document_spoils_no_other() {
    let good = document(&format!("{{{GOOD}, {HOMES}}}"));
    let loaded = load(&format!("{}---\n{good}---\n", document("{}")), &facts(Orchestrator::Local)).unwrap();
    assert_eq!(loaded.iter().map(|one| one.policy.is_ok()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(loaded[1].line, 8);
}

/// cases.md: two policies of one controller with the same destination, instance and name.
#[test]
fn twins_are_refused_on_both_sides() {
    let good = document(&format!("{{{GOOD}, {HOMES}}}"));
    let other = good.replace("path: WT", "path: XY");
    let mut loaded = load(&[good.clone(), other, good].join("---\n"), &facts(Orchestrator::Local)).unwrap();
    refuse_twins(&mut loaded);
    assert_eq!(loaded.iter().map(|one| one.policy.is_ok()).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(
        told(loaded.remove(2).policy),
        "13: metadata.name: another policy has this name and keeps its backups in box:WT/production too; rename one of them"
    );
}

#[test]
fn of_one_name_a_host_takes_none_and_says_where_all_stand() {
    let good = document(&format!("{{{GOOD}, {HOMES}}}"));
    let other = good.replace("path: WT", "path: XY");
    let wrong = good.replace("instance: production", "instance: 7");
    let mut loaded: Vec<_> = [good.clone(), other, wrong, good.replace("nightly", "weekly")]
        .iter()
        .zip(["a.yaml", "b.yaml", "c.yaml", "d.yaml"])
        .map(|(text, file)| (file.to_owned(), load(text, &facts(Orchestrator::Local)).unwrap().remove(0)))
        .collect();
    refuse_namesakes(loaded.iter_mut().map(|(file, loaded)| (file.clone(), loaded)));
    let lines: Vec<_> = loaded.into_iter().map(|(_, loaded)| told(loaded.policy)).collect();
    let twice = "3: metadata.name: nightly is declared more than once, in a.yaml (line 3) and in b.yaml (line 3) and in c.yaml (line 3); rename one";
    assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[3].as_str()), (twice, twice, "accepted"));
    assert!(lines[2].starts_with(twice) && lines[2].contains("instance"), "{}", lines[2]);
}

#[test]
fn a_name_is_told_by_its_own_line_and_a_zone_beside_a_schedule() {
    let text = document(&format!("{{{GOOD}, {HOMES}, schedule: 61 * * * *, timeZone: Mars/Olympus}}"));
    let text = text.replace("{name: nightly}", "\n  name: Nightly!").replace("spec: {", "spec:\n  {");
    let lines = told(load_one(&text, &facts(Orchestrator::Local)));
    let fields = ["4: metadata.name", "6: timeZone", "6: schedule"];
    assert!(fields.iter().all(|field| lines.contains(field)), "{lines}");
}

#[test]
fn defaults_lie_below_a_policy() {
    let defaults =
        Defaults::read("instance: production\ndestination: {remote: box, path: WT, configFrom: {directory: /etc/rclone}}\nretention: {keepDaily: 30}\n").unwrap();
    let facts = Facts { orchestrator: Orchestrator::Local, defaults };
    let policy = load_one(&document(&format!("{{{HOMES}, destination: {{path: XY}}}}")), &facts).unwrap();
    assert_eq!(policy.destination.to_string(), "box:XY");
    assert_eq!((policy.retention.keep_daily, policy.retention.keep_within_days), (30, 0));
    let wrong = [
        "volumes: []",
        "volumes: [{name: a, hostPath: /x}]\nretension: {}",
        "a: [",
        "suspend: 1\n---\nsuspend: 2",
    ];
    let told: Vec<_> = wrong
        .iter()
        .map(|text| match Defaults::read(text) {
            Ok(_) => "accepted".to_owned(),
            Err(errors) => errors.iter().map(|e| format!("{}: {e}", e.line)).collect::<Vec<_>>().join("; "),
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn each_orchestrator_has_its_own_places_and_secrets() {
    let spec = "{instance: p, volumes: [{name: a, claimName: c}], mongodb: {uriFrom: {secretKeyRef: {name: m}}}, destination: {remote: box, configFrom: {secretKeyRef: {name: rclone}}}}";
    let policy = load_one(&document(spec), &facts(Orchestrator::Kubernetes)).unwrap();
    assert_eq!(policy.volumes[0].place, VolumePlace::Claim("c".to_owned()));
    assert!(told(load_one(&document(spec), &facts(Orchestrator::Swarm))).contains("volumeName or hostPath"));
    let named = spec.replace("claimName", "volumeName");
    assert!(load_one(&document(&named), &facts(Orchestrator::Swarm)).is_ok());
    let named = document(&named)
        .replace("instance: p, ", "")
        .replace("{name: nightly}", "{name: nightly, namespace: lab}");
    assert!(
        told(load_one(&named, &facts(Orchestrator::Kubernetes))).contains("on Kubernetes write claimName")
    );
}

/// Words of the contract and values of every kind, put together at random.
fn trees() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|n| serde_json::json!(n)),
        "[ -~]{0,12}".prop_map(Into::into),
        prop::sample::select(vec![
            "mongodb://a",
            "/x",
            "* * * * *",
            "H H * * *",
            "box",
            "homes",
            "UTC",
            "1Gi",
            "age1x",
            "Auto"
        ])
        .prop_map(Into::into),
    ];
    let keys = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "instance",
        "schedule",
        "timeZone",
        "mongodb",
        "uri",
        "uriFrom",
        "file",
        "secretKeyRef",
        "volumes",
        "hostPath",
        "include",
        "destination",
        "remote",
        "path",
        "configFrom",
        "retention",
        "keepLast",
        "task",
        "retries",
        "resources",
        "limits",
        "memory",
        "x",
    ]);
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(keys.clone(), inner, 0..8).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_tree_is_accepted_or_refused(spec in trees(), whole: bool) {
        let text = if whole { spec.to_string() } else { document(&spec.to_string()) };
        for orchestrator in [Orchestrator::Local, Orchestrator::Swarm, Orchestrator::Kubernetes] {
            if let Ok(mut loaded) = load(&text, &facts(orchestrator)) {
                refuse_twins(&mut loaded);
            }
        }
        let _ = Defaults::read(&spec.to_string());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\t]{0,200}|\\PC{0,80}") {
        let _ = yaml::read(&text);
        let _ = load(&text, &facts(Orchestrator::Local));
    }

    #[test]
    fn a_good_policy_with_one_value_replaced(at in 0usize..12, value in "\\PC{0,20}") {
        let parts = ["production", "box", "WT", "/etc/rclone.conf", "homes", "/mnt/homes", "nightly", "BackupPolicy", "backstay.dev/v1alpha1", "instance", "volumes", "hostPath"];
        let text = document(&format!("{{{GOOD}, {HOMES}}}")).replacen(parts[at], &value, 1);
        let _ = load(&text, &facts(Orchestrator::Local));
    }
}
