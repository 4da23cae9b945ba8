//! Makes the Job of a task, or finds it.

use crate::{
    controller::port::{Created, PortError},
    orchestrators::kubernetes::{
        client::{Cluster, code, unread, unwritten},
        job::{self, Launch},
        names,
        objects::{self, JobSeen},
        store::Store,
    },
};
use k8s_openapi::api::batch::v1::Job;
use kube::api::PostParams;

/// Makes the Job, and notes what is there then. Of one that is there already, its owner says whose it is.
///
/// # Errors
/// As all writes, and what keeps it from being made.
pub async fn launch(
    cluster: &Cluster,
    jobs: &Store<JobSeen>,
    launch: Launch<'_>,
) -> Result<Created, PortError> {
    let job = job::job(launch).map_err(PortError::Rejected)?;
    let job: Job = serde_json::from_value(job).map_err(|error| {
        PortError::Rejected(format!("the settings of the task are not such as Kubernetes takes: {error}"))
    })?;
    let name = job.metadata.name.clone().unwrap_or_default();
    let api = cluster.jobs_in(Some(names::namespace(launch.policy)));
    let (there, created) = match api.create(&PostParams::default(), &job).await {
        Err(error) if code(&error) == Some(409) => {
            let there = api.get(&name).await.map_err(unread)?;
            let mut owners = there.metadata.owner_references.iter().flatten();
            let is_ours = owners.any(|owner| owner.uid == launch.owner.uid);
            (there, if is_ours { Created::Ours } else { Created::Foreign(format!("Job {name}")) })
        }
        made => (made.map_err(unwritten)?, Created::Fresh),
    };
    objects::job(&there).into_iter().for_each(|seen| jobs.note(seen));
    Ok(created)
}
