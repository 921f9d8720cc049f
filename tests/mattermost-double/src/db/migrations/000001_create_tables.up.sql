CREATE TABLE systems (name varchar(64) PRIMARY KEY, value text NOT NULL);
CREATE TABLE users (
    id varchar(26) PRIMARY KEY, createat bigint NOT NULL, deleteat bigint NOT NULL DEFAULT 0,
    username varchar(64) NOT NULL UNIQUE, email varchar(128) NOT NULL UNIQUE,
    password varchar NOT NULL DEFAULT '', failedattempts int NOT NULL DEFAULT 0, mfaactive boolean NOT NULL DEFAULT false,
    doc jsonb NOT NULL);
CREATE TABLE sessions (
    id varchar(26) PRIMARY KEY, token varchar(26) NOT NULL UNIQUE, userid varchar(26) NOT NULL,
    createat bigint NOT NULL, expiresat bigint NOT NULL);
CREATE TABLE useraccesstokens (
    id varchar(26) PRIMARY KEY, token varchar(26) NOT NULL UNIQUE, userid varchar(26) NOT NULL,
    description text NOT NULL, isactive boolean NOT NULL DEFAULT true);
CREATE TABLE bots (userid varchar(26) PRIMARY KEY, createat bigint NOT NULL, deleteat bigint NOT NULL DEFAULT 0, doc jsonb NOT NULL);
CREATE TABLE teams (
    id varchar(26) PRIMARY KEY, name varchar(64) NOT NULL UNIQUE, displayname varchar(64) NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0, doc jsonb NOT NULL);
CREATE TABLE teammembers (
    teamid varchar(26) NOT NULL, userid varchar(26) NOT NULL, admin boolean NOT NULL, deleteat bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (teamid, userid));
CREATE TABLE channels (
    id varchar(26) PRIMARY KEY, teamid varchar(26) NOT NULL, name varchar(64) NOT NULL, type char(1) NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0, doc jsonb NOT NULL, UNIQUE (teamid, name));
CREATE TABLE channelmembers (
    channelid varchar(26) NOT NULL, userid varchar(26) NOT NULL, admin boolean NOT NULL, mentions bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (channelid, userid));
CREATE TABLE posts (
    seq bigserial NOT NULL, id varchar(26) PRIMARY KEY, createat bigint NOT NULL, updateat bigint NOT NULL,
    deleteat bigint NOT NULL DEFAULT 0, userid varchar(26) NOT NULL, channelid varchar(26) NOT NULL, doc jsonb NOT NULL);
CREATE TABLE fileinfo (
    id varchar(26) PRIMARY KEY, createat bigint NOT NULL, postid varchar(26) NOT NULL DEFAULT '', path text NOT NULL, doc jsonb NOT NULL);
CREATE TABLE incomingwebhooks (
    id varchar(26) PRIMARY KEY, createat bigint NOT NULL, deleteat bigint NOT NULL DEFAULT 0,
    userid varchar(26) NOT NULL, channelid varchar(26) NOT NULL, teamid varchar(26) NOT NULL, doc jsonb NOT NULL);
CREATE TABLE outgoingwebhooks (id varchar(26) PRIMARY KEY, deleteat bigint NOT NULL DEFAULT 0, doc jsonb NOT NULL);
CREATE TABLE commands (
    id varchar(26) PRIMARY KEY, teamid varchar(26) NOT NULL, trigger_word varchar(128) NOT NULL, doc jsonb NOT NULL);
CREATE TABLE pluginkeyvaluestore (
    pluginid varchar(190) NOT NULL, pkey varchar(150) NOT NULL, pvalue bytea, PRIMARY KEY (pluginid, pkey))
