//! What the controller tells about itself in a config: what it allows, its defaults, what runs it. With that the command
//! line judges policies as the controller does.

use crate::{
    api::document::Defaults,
    controller::port::PortError,
    orchestrators::swarm::{
        discover::Rules,
        engine::{
            Engine,
            model::{Config, Labels},
            refusal::Refusal,
        },
        facts::Grants,
        names::{self, kind},
        objects::IN_LABELS,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The label with all of it.
const NOTICE: &str = "backstay.controller";
/// Controllers that start at the same moment tell one after the other.
const TRIES: usize = 5;

/// What the controller tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Notice {
    /// Since when it runs, or ran last.
    pub since: Option<Timestamp>,
    /// The service that it is a task of; none when a person started it.
    pub service: Option<String>,
    /// What its tasks run as.
    pub image: Option<String>,
    /// Services of controllers that told this before: any may still run.
    pub others: Vec<String>,
    /// What every policy may use.
    pub grants: Grants,
    /// The partial policy below each.
    pub defaults: String,
}

impl Notice {
    /// Tells everyone. Of several controllers, the one that was started last.
    ///
    /// # Errors
    /// As all calls.
    pub async fn put_up(
        engine: &Engine,
        rules: &Rules,
        service: Option<String>,
        image: &str,
        now: Timestamp,
    ) -> Result<(), PortError> {
        let (grants, defaults) = (rules.grants.clone(), rules.defaults.to_text());
        let (image, others) = (Some(image.to_owned()), Vec::new());
        let notice = Self { since: Some(now), service, image, others, grants, defaults };
        for _ in 1..TRIES {
            match notice.replace(engine).await {
                // Another controller tells at this moment.
                Err(PortError::Conflict(_)) => {}
                told => return told,
            }
        }
        notice.replace(engine).await
    }

    /// Takes the place of what was told before.
    async fn replace(&self, engine: &Engine) -> Result<(), PortError> {
        let there = engine.find_config(names::CONTROLLER).await?;
        let mut notice = self.clone();
        for service in self.before(there.as_ref().and_then(Self::of)) {
            if engine.find_service(&service).await?.is_some() {
                notice.others.push(service);
            }
        }
        let text = serde_json::to_string(&notice).map_err(|error| PortError::Rejected(error.to_string()))?;
        let labels =
            Labels::from([(names::KIND.to_owned(), kind::CONTROLLER.to_owned()), (NOTICE.to_owned(), text)]);
        match there {
            Some(there) => Ok(engine.label_config(names::CONTROLLER, there.version.index, &labels).await?),
            None => {
                engine.create_config(names::CONTROLLER, &labels, IN_LABELS).await?;
                Ok(())
            }
        }
    }

    /// The services that told something before, which this one's are not.
    fn before(&self, told: Option<Self>) -> Vec<String> {
        let told = told.unwrap_or_default();
        let mut found: Vec<String> = Vec::new();
        for service in told.services().filter(|service| self.service.as_deref() != Some(service)) {
            if found.iter().all(|known| known != service) {
                found.push(service.to_owned());
            }
        }
        found
    }

    fn of(config: &Config) -> Option<Self> {
        serde_json::from_str(config.label(NOTICE)?).ok()
    }

    /// The services of all controllers that told of themselves, the newest first.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.service.iter().chain(&self.others).map(String::as_str)
    }

    /// What was told last; nothing when no controller ever ran.
    ///
    /// # Errors
    /// As all calls.
    pub async fn read(engine: &Engine) -> Result<Option<Self>, Refusal> {
        let config = engine.find_config(names::CONTROLLER).await?;
        Ok(config.as_ref().and_then(Self::of))
    }

    /// By what policies are judged.
    pub fn rules(&self) -> Rules {
        let defaults = Defaults::read(&self.defaults).unwrap_or_default();
        Rules { defaults, grants: self.grants.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_told_before_is_told_of_once_and_after_the_newest() {
        let notice = |service: &str, others: &[&str]| Notice {
            service: Some(service.to_owned()),
            others: others.iter().map(|&other| other.to_owned()).collect(),
            ..Notice::default()
        };
        let table = [
            (None, vec![]),
            (Some(notice("a", &[])), vec![]),
            (Some(notice("b", &["a"])), vec!["b"]),
            (Some(notice("b", &["c", "b"])), vec!["b", "c"]),
            (Some(Notice { service: None, ..notice("", &["c"]) }), vec!["c"]),
        ];
        for (told, expected) in table {
            assert_eq!(notice("a", &[]).before(told.clone()), expected, "{told:?}");
        }
        assert_eq!(notice("a", &["b"]).services().collect::<Vec<_>>(), ["a", "b"]);
    }
}
