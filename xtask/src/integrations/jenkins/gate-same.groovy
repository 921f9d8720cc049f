                        mattermostSend(channel: '{ALERTS}', color: 'danger', message: message)
