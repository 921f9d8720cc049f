                        // Its webhook posts to no other channel, so that it is this step's own.
                        withCredentials([string(credentialsId: '{CREDENTIAL}', variable: 'ALERTS')]) {
                            mattermostSend(endpoint: ALERTS, channel: '{ALERTS}', color: 'danger', message: message)
                        }
