//! What the controller tells about itself in a config: what it allows, its defaults, what runs it. With that the command
//! line judges policies as the controller does.

use crate::{
    api::document::Defaults,
    controller::port::PortError,
    orchestrators::swarm::{
        discover::Rules,
        engine::{Engine, model::Labels, refusal::Refusal},
        facts::Grants,
        names::{self, kind},
        objects::IN_LABELS,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The label with all of it.
const NOTICE: &str = "backstay.controller";

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
        let image = Some(image.to_owned());
        let notice = Self { since: Some(now), service, image, grants, defaults };
        let text = serde_json::to_string(&notice).map_err(|error| PortError::Rejected(error.to_string()))?;
        let labels =
            Labels::from([(names::KIND.to_owned(), kind::CONTROLLER.to_owned()), (NOTICE.to_owned(), text)]);
        match engine.find_config(names::CONTROLLER).await? {
            Some(there) => Ok(engine.label_config(names::CONTROLLER, there.version.index, &labels).await?),
            None => {
                engine.create_config(names::CONTROLLER, &labels, IN_LABELS).await?;
                Ok(())
            }
        }
    }

    /// What was told last; nothing when no controller ever ran.
    ///
    /// # Errors
    /// As all calls.
    pub async fn read(engine: &Engine) -> Result<Option<Self>, Refusal> {
        let config = engine.find_config(names::CONTROLLER).await?;
        Ok(config.and_then(|config| serde_json::from_str(config.label(NOTICE)?).ok()))
    }

    /// By what policies are judged.
    pub fn rules(&self) -> Rules {
        let defaults = Defaults::read(&self.defaults).unwrap_or_default();
        Rules { defaults, grants: self.grants.clone() }
    }
}
